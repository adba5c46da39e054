"""What a process holds, over time (Linux's /proc)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

TENTH = 0.1


@dataclass
class ProcessRecord:
    """Samples of one process; lists of one length.

    Attributes:
        time_s: steady clock. rss_mb, anonymous_mb: memory in use, and that part of it which is of no file and not
            shared with other processes. threads, files: how many; files counts open descriptors.
    """

    pid: int
    time_s: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    anonymous_mb: list[float] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def sample(self, now_s: float) -> None:
        """Add one sample.

        Raises:
            OSError: the process is gone, or this system has no /proc.
        """
        folder = Path(f"/proc/{self.pid}")
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
        self.time_s.append(now_s)
        self.rss_mb.append(int(status["VmRSS"].split()[0]) / 1024)
        self.anonymous_mb.append(int(status["RssAnon"].split()[0]) / 1024)
        self.threads.append(int(status["Threads"]))
        self.files.append(sum(1 for _ in (folder / "fd").iterdir()))


def growth(time_s: Any, values: Any) -> dict[str, float]:
    """How much a quantity grew over a run, warm-up cut off before.

    Args:
        time_s, values: (N,) samples in order, N at least 2.

    Returns:
        ``first_tenth`` and ``last_tenth``: medians of the first and last tenth of the time; ``tenths_percent``: the one
        over the other; ``fit_percent``: what a straight line through all samples grows from begin to end, against its
        begin; ``fit_percent_per_hour``.

    Raises:
        ValueError: fewer than two samples, or no time between them.
    """
    time, value = np.asarray(time_s, np.float64), np.asarray(values, np.float64)
    if len(time) < 2 or time[-1] <= time[0]:
        raise ValueError(f"growth needs samples of at least two times, got {len(time)}")
    span = time[-1] - time[0]
    first = float(np.median(value[time <= time[0] + TENTH * span]))
    last = float(np.median(value[time >= time[-1] - TENTH * span]))
    slope, begin = np.polyfit(time - time[0], value, 1)
    return {
        "first_tenth": first,
        "last_tenth": last,
        "tenths_percent": 100 * (last / first - 1),
        "fit_percent": float(100 * slope * span / begin),
        "fit_percent_per_hour": float(100 * slope * 3600 / begin),
    }
