"""The beat of the commands, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rclpy.clock import Clock

# Simulated time comes in steps from /clock and at any speed, so it is looked at so often, steady seconds.
LOOK_S = 0.001


class CommandTimer:
    """Calls a function at a rate of the node's clock until cancelled.

    Not a timer of the executor: that waits until the executor has gone through every message of every stream, and for
    one of its threads to take it up. A beat that was missed is left out, not made up for. When the clock goes back the
    next beat is one period from there.
    """

    def __init__(
        self, clock: Clock, rate_hz: Callable[[], float], tick: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        """Starts at once.

        Args:
            rate_hz: asked anew at each beat. tick: must not block for long. failed: told what ``tick`` raised; the beat
                goes on.
        """
        self._clock, self._rate_hz, self._tick, self._failed = clock, rate_hz, tick, failed
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commands", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due_ns = self._clock.now().nanoseconds
        while not self._cancelled.is_set():
            period_ns = round(1e9 / self._rate_hz())
            left_ns = due_ns - self._clock.now().nanoseconds
            if left_ns > period_ns:  # the clock went back, or the rate went up
                due_ns += period_ns - left_ns
                continue
            if left_ns > 0:
                self._cancelled.wait(LOOK_S if self._clock.ros_time_is_active else left_ns * 1e-9)
                continue
            try:
                self._tick()
            except Exception as error:  # one bad beat must not be the last
                self._failed(error)
            due_ns += period_ns
            late_ns = self._clock.now().nanoseconds - due_ns
            if late_ns >= 0:
                due_ns += (late_ns // period_ns + 1) * period_ns

    def cancel(self) -> None:
        """End it; returns when a beat under way is over."""
        self._cancelled.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(1.0)
