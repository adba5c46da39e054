"""How fast this machine is, for limits in seconds: they hold for a processor of today; that of CI may be slower."""

from __future__ import annotations

import functools
import time

LOOPS, SECONDS = 5_000_000, 0.25  # of additions in the interpreter; what they take on a processor of about 3.7 GHz


@functools.cache
def slower() -> float:
    """By how much a limit has to grow here, at least 1: the best of three."""
    return max(1.0, min(_seconds() for _ in range(3)) / SECONDS)


def _seconds() -> float:
    start, total = time.perf_counter(), 0
    for i in range(LOOPS):
        total += i
    return time.perf_counter() - start
