"""Simulated time against wall time."""

from __future__ import annotations

import threading
import time

LAG_S = 0.1  # a simulation that is later than this goes on from where it is


class Pacer:
    """Waits so that simulated time runs at a multiple of wall time, and measures the multiple that is reached.

    Attributes:
        running_s: wall time in which simulated time went on. achieved: simulated over wall time of the last report.
    """

    def __init__(self, report_period_s: float, time_ns: int) -> None:
        """Args: report_period_s: wall time over which the factor is measured. time_ns: simulated time now."""
        self.running_s = self.achieved = 0.0
        self._period_s = report_period_s
        self._due = self._now = self._reported = time.monotonic()
        self._reported_ns, self._running_since_report_s = time_ns, 0.0

    def restart(self) -> None:
        """What has passed since the last step was spent on loading, and is no simulated time."""
        self._now = self._due = time.monotonic()

    def stood_still(self, seconds: float) -> None:
        """So much wall time was spent while simulated time stood still: it is not made up for."""
        self._due += seconds

    def stepped(self, running: bool) -> None:
        """A step is done. running: whether simulated time went on in it."""
        before, self._now = self._now, time.monotonic()
        if running:
            self.running_s += self._now - before
            self._running_since_report_s += self._now - before

    def report_due(self, time_ns: int) -> bool:
        """Whether there is something to report and it is time to; measures ``achieved`` then. time_ns: simulated."""
        if self._now - self._reported < self._period_s:
            return False
        running_s, simulated_ns = self._running_since_report_s, time_ns - self._reported_ns
        self._reported, self._reported_ns, self._running_since_report_s = self._now, time_ns, 0.0
        if running_s > 0:
            self.achieved = simulated_ns / 1e9 / running_s
        return running_s > 0

    def wait(self, step_s: float, factor: float, stop: threading.Event) -> None:
        """Until the next step is due. step_s: simulated. factor: simulated over wall time; 0 does not wait."""
        if factor <= 0:
            return
        self._due += step_s / factor
        if self._due > self._now:
            stop.wait(self._due - self._now)
        elif self._now - self._due > LAG_S:
            self._due = self._now  # too slow: it does not race to make up for it
