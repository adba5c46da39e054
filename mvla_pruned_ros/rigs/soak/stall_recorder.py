"""A bare process that sleeps and looks at the clock: when it wakes late, the machine itself stood still.

``python -m mvla_pruned_ros.rigs.soak.stall_recorder FILE`` appends a line ``due woke`` (steady clock, nanoseconds) for
each late wake, until it is told to end. It imports next to nothing and shares nothing with the nodes but the machine.
"""

from __future__ import annotations

import gc
import signal
import sys
import time
from pathlib import Path

PERIOD_S = 0.0005
LATE_NS = 2_000_000


def record(path: Path) -> None:
    """Until SIGINT or SIGTERM."""
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, frame: stopped.append(got))
    gc.disable()
    period_ns = round(PERIOD_S * 1e9)
    with path.open("w", buffering=1) as file:
        now = time.monotonic_ns()
        while not stopped:
            due = now + period_ns
            time.sleep(PERIOD_S)
            now = time.monotonic_ns()
            if now - due > LATE_NS:
                file.write(f"{due} {now}\n")


if __name__ == "__main__":
    record(Path(sys.argv[1]))
