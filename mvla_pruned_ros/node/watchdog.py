"""A look at regular intervals of steady time that depends on nothing else."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable


class Watchdog:
    """Calls a function on a thread of its own until stopped.

    Not a timer of the executor: that would be blind when the executor is, and wake it many times a second.
    """

    def __init__(self, period_s: float, look: Callable[[], None]) -> None:
        """Starts at once. Args: look: must not block; what it raises is printed, and it is called again."""
        self._period_s, self._look = period_s, look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                self._look()
            except Exception as error:
                print(f"policy: watchdog: {type(error).__name__}: {error}", file=sys.stderr)

    def stop(self) -> None:
        """End it; returns when the last look is over."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(1.0)
