"""Which commands came too late, and for which of them the machine itself stood still."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

DEADLINE_PERIODS = 2.0  # a command is late when it comes more than this many periods after the one before


@dataclass(frozen=True)
class Stalls:
    """Times in which a bare process that wanted to run could not.

    Attributes:
        starts, ends: (S,) seconds of the steady clock, in order, not overlapping; made so by ``of``.
    """

    starts: np.ndarray = field(default_factory=lambda: np.zeros(0))
    ends: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, windows: np.ndarray) -> Stalls:
        """(S, 2) seconds from and to, in any order; those that overlap become one."""
        starts, ends = windows[np.argsort(windows[:, 0])].T
        until = np.maximum.accumulate(ends)
        begins = np.append(True, starts[1:] > until[:-1])[: len(starts)]
        return cls(starts[begins], until[np.append(begins[1:], True)[: len(starts)]])

    @classmethod
    def read(cls, path: Path) -> Stalls:
        """Lines of two times in nanoseconds, as ``stall_recorder`` writes them; an unfinished last line is left out."""
        lines = path.read_text().split("\n")[:-1]
        times = np.array([[int(word) for word in line.split()] for line in lines], np.float64).reshape(-1, 2) * 1e-9
        return cls.of(times)

    def within(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """(N,) seconds of stall inside each of (N,) windows."""
        if not len(self.starts):
            return np.zeros(len(starts))
        edges = np.stack([self.starts, self.ends], 1).ravel()
        lengths = self.ends - self.starts
        so_far = np.stack([np.cumsum(lengths) - lengths, np.cumsum(lengths)], 1).ravel()
        return np.interp(ends, edges, so_far) - np.interp(starts, edges, so_far)


@contextlib.contextmanager
def recorded_stalls(path: Path) -> Iterator[None]:
    """Run ``stall_recorder`` beside the block; ``Stalls.read`` reads what it wrote to ``path`` so far."""
    command = [sys.executable, "-m", f"{__package__}.stall_recorder", str(path)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as recorder:
        try:
            yield
        finally:
            recorder.terminate()


@dataclass(frozen=True)
class Deadlines:
    """How many deadlines of commands were met.

    After each command the next one is due within ``DEADLINE_PERIODS`` periods, and in a gap longer than that one more
    deadline is missed with each further period: an outage weighs as long as it lasts.

    Attributes:
        met, missed: deadlines. missed_by_stall: part of the missed ones in which the machine stood still.
        gaps: (M,) indices of the intervals in which deadlines were missed. by_stall: (M,) bool.
    """

    met: int
    missed: int
    missed_by_stall: int
    gaps: np.ndarray
    by_stall: np.ndarray

    @property
    def share(self) -> float:
        """Deadlines met / all deadlines."""
        return self.met / (self.met + self.missed)

    @property
    def share_without_stalls(self) -> float:
        """The same without those that were missed while the machine stood still."""
        return self.met / (self.met + self.missed - self.missed_by_stall)


def judge_deadlines(arrivals: np.ndarray, period_s: float, stalls: Stalls) -> Deadlines:
    """Deadlines of one run.

    A gap counts as the machine's when it stood still in that gap for at least half of the time by which the command
    was late, and taking the stall off the gap leaves one that holds the deadline.

    Args:
        arrivals: (N,) seconds of the steady clock, in order. period_s: between two commands.

    Raises:
        ValueError: fewer than two commands.
    """
    if len(arrivals) < 2:
        raise ValueError(f"{len(arrivals)} commands came: at least 2 are needed")
    intervals = np.diff(arrivals)
    allowed_s = DEADLINE_PERIODS * period_s
    gaps = np.flatnonzero(intervals > allowed_s)
    gap_s = intervals[gaps]
    missed = np.maximum(1, np.ceil(gap_s / period_s - 1e-6).astype(int) - 2)
    stalled_s = stalls.within(arrivals[gaps], arrivals[gaps + 1])
    by_stall = stalled_s >= np.maximum(gap_s - allowed_s, (gap_s - period_s) / 2)
    return Deadlines(len(intervals) - len(gaps), int(missed.sum()), int(missed[by_stall].sum()), gaps, by_stall)


@dataclass(frozen=True)
class Stops:
    """Runs of safe commands (velocity zero) between commands that moved.

    Attributes:
        starts, ends: (K,) seconds: first safe command, first command after it.
        by_stall, by_sensor: (K,) bool: the machine stood still, or a sensor was late; a stop of both is the machine's.
    """

    starts: np.ndarray
    ends: np.ndarray
    by_stall: np.ndarray
    by_sensor: np.ndarray

    @property
    def false_stops(self) -> int:
        """Those without a cause outside the node."""
        return int((~(self.by_stall | self.by_sensor)).sum())


def judge_stops(arrivals: np.ndarray, safe: np.ndarray, reach_s: float, stalls: Stalls, late: Stalls) -> Stops:
    """Stops of one run, and whether something outside the node explains them.

    A stop has a cause when that lasted, from ``reach_s`` before the stop to its end, at least as long as the stop:
    without it the next chunk would have been in place in time.

    Args:
        arrivals: (N,) seconds. safe: (N,) bool. reach_s: how long a chunk lasts. late: in which a sensor was late.
    """
    changes = np.flatnonzero(np.diff(safe.astype(int)) == 1) + 1
    moving = np.flatnonzero(~safe)
    after = np.searchsorted(moving, changes)
    last = arrivals[-1] if len(arrivals) else 0.0
    starts = arrivals[changes]
    ends = np.array([arrivals[moving[i]] if i < len(moving) else last for i in after])
    lengths = ends - starts
    return Stops(
        starts,
        ends,
        stalls.within(starts - reach_s, ends) >= lengths,
        late.within(starts - reach_s, ends) >= lengths,
    )
