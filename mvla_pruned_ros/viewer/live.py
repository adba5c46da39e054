"""A view that is drawn while the robot runs: on a thread of its own, which the policy never waits for."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from ..control.action_spaces import ActionForm
from .target import SPAWN, open_recording

if TYPE_CHECKING:
    from .calls import Call, Status

WAITING = 8  # calls and statuses that wait to be drawn; a newer one drives the oldest out
LOOK_S = 2.0  # between two looks whether the viewer is still there
JOIN_S = 2.0
PERIOD_NS = 90_000_000  # between two calls that are drawn: eyes need no more, and drawing takes from the policy's time


class LiveView:
    """Draws what it is handed, or drops it: whoever hands something over never waits, and no error reaches them.

    Attributes:
        dropped: how many calls and statuses were not drawn. failure: why nothing is drawn any more, or why the last
            one was not; empty while all is well.
    """

    def __init__(self, target: str, form: ActionForm) -> None:
        """Args: target: see ``check_target``. form: of the policy's actions."""
        self.dropped = 0
        self.failure = ""
        self._target, self._form = target, form
        self._waiting: deque[Call | Status] = deque()
        self._condition = threading.Condition()
        self._ended = self._closed = False
        self._thread = threading.Thread(target=self._run, name="view", daemon=True)
        self._thread.start()

    def put(self, shown: Call | Status) -> None:
        """Hand over what is to be drawn. Its arrays must not be changed any more."""
        with self._condition:
            if self._ended or self._closed:
                self.dropped += 1
                return
            if len(self._waiting) == WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(shown)
            self._condition.notify()

    def close(self) -> None:
        """Draw what waits and end, within ``JOIN_S``; what takes longer is left behind."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        try:
            self._draw()
        except BaseException as error:  # a view is a help, nothing to stop a robot for; Rerun's panics are no Exception
            self.failure = f"{type(error).__name__}: {error}"
        with self._condition:
            self._ended = True
            self.dropped += len(self._waiting)
            self._waiting.clear()

    def _draw(self) -> None:
        recording = open_recording(self._target, endless=True)
        from .scene import Scene

        scene, looked_at = Scene(recording, self._form, PERIOD_NS), time.monotonic()
        try:
            while (shown := self._next()) is not None:
                if self._target == SPAWN and time.monotonic() - looked_at > LOOK_S:
                    self._look()
                    looked_at = time.monotonic()
                try:
                    scene.show(shown)
                    self.failure = ""
                except Exception as error:  # the next may be drawn again
                    self.failure = f"{type(error).__name__}: {error}"
                    self.dropped += 1
        finally:
            recording.disconnect()

    def _next(self) -> Call | Status | None:
        """The oldest of those that wait; None when it is over."""
        with self._condition:
            self._condition.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.popleft() if self._waiting else None

    @staticmethod
    def _look() -> None:
        """Raises ViewerError when the viewer is gone: Rerun would keep in memory what it cannot send."""
        from .program import ViewerError, reachable

        if not reachable():
            raise ViewerError("the viewer was closed; configure the node again to open another")
