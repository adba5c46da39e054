"""How soon the arm stops when a sensor falls silent, and whether it stops when none does."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..soak.deadlines import Stalls, Stops, judge_stops, recorded_stalls
from .peer import FRAME_S
from .run import sessions
from .session import NodeFailedError, Session

SILENT = {
    "image": ("image",),
    "depth": ("depth",),
    "pose": ("ee_pose",),
    "gripper": ("gripper",),
    "all": ("image", "depth", "ee_pose", "gripper", "camera_info"),
}
AGE_MS = 500.0  # max_observation_age_ms
PERIOD_MS = 12.5  # of commands
LIMIT_MS = AGE_MS + 2 * PERIOD_MS
HEALTHY_S = (0.6, 1.4)  # before a silence: a random time of this range
LONG = "long 20"  # chunks of 4 s: what stops the arm is the age of what was seen
CHUNKS = {"shipped": "", "long": LONG}
CHUNK_S = 0.2
HEALTHY_AGAIN_S = 60.0


@dataclass(frozen=True)
class StopTrial:
    """One silence.

    Attributes:
        stream: that fell silent. chunk: ``shipped`` ends after 0.2 s and stops the arm by itself; ``long`` goes on.
        stopped_ms: from the stamp of the last message of the stream to the first zero command at the subscriber, after
            which none moved; None when the arm did not stop.
        machine_ms: part of that in which a bare process could not run.
    """

    stream: str
    chunk: str
    stopped_ms: float | None
    machine_ms: float

    @property
    def in_time(self) -> bool:
        """Stopped within the limit."""
        return self.stopped_ms is not None and self.stopped_ms <= LIMIT_MS

    @property
    def by_machine(self) -> bool:
        """Late, and without the stall of the machine it would not have been (the rule of ``mvla soak``)."""
        if self.in_time or self.stopped_ms is None:
            return False
        return self.stopped_ms - self.machine_ms <= LIMIT_MS


@dataclass(frozen=True)
class StopRun:
    """All trials, and the times between them. Attributes: healthy_s: in sum. stops: in healthy times."""

    trials: list[StopTrial]
    healthy_s: float
    stops: int
    stops_by_machine: int


def run_stop_trials(
    policy: str, count: int, seed: int, domain_id: int | None, progress: Callable[[int], None] = lambda done: None
) -> StopRun:
    """Silence streams in turn.

    Raises:
        ValueError: fewer than one trial. ChildFailedError: the node does not come back, or has ended.
    """
    if count < 1:
        raise ValueError(f"stop trials must be at least 1, got {count}")
    rng = np.random.default_rng(seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        sessions(policy, domain_id) as started,
        recorded_stalls(Path(folder) / "stalls.txt"),
    ):
        session = started.start("depth")
        session.heal()
        session.set({"command_rate_hz": 1e3 / PERIOD_MS})
        session.child.check()
        windows: list[tuple[StopTrial, float, float]] = []
        healthy: list[tuple[float, float]] = []
        history: list[tuple[float, bool]] = []  # of all commands: when received, whether zero
        for number in range(count):
            progress(number)
            names = list(SILENT)
            stream, chunk = names[number % len(names)], list(CHUNKS)[number // len(names) % len(CHUNKS)]
            session.set({"fault": CHUNKS[chunk]})
            begin = _moving(session, chunk)
            session.drive_for(begin + rng.uniform(*HEALTHY_S) - time.monotonic())
            # The moment within a frame's period is a matter of chance too.
            session.graph.spin_for(rng.uniform(0, FRAME_S))
            last = session.peer.sent_at
            healthy.append((begin, last))
            windows.append(_silence(session, stream, chunk, last))
            history += [(c.received_s, not c.moves) for c in session.peer.commands]
            session.peer.commands.clear()
        progress(count)
        time.sleep(0.05)  # the recorder writes a stall when it is over
        seen = Stalls.read(Path(folder) / "stalls.txt")
    trials = [
        StopTrial(t.stream, t.chunk, t.stopped_ms, float(seen.within(np.array([a]), np.array([b]))[0]) * 1e3)
        for t, a, b in windows
    ]
    stops = [_false_stops(history, window, seen) for window in healthy]
    healthy_s, by_machine = sum(end - begin for begin, end in healthy), sum(int(s.by_stall.sum()) for s in stops)
    return StopRun(trials, healthy_s, sum(len(s.starts) for s in stops), by_machine)


def _moving(session: Session, chunk: str) -> float:
    """Drive until the arm has moved for a while with chunks of this kind; returns steady seconds."""
    peer = session.peer
    if not session.drive(lambda: peer.moving, HEALTHY_AGAIN_S):
        raise NodeFailedError(f"the arm does not move again: {peer.level}: {peer.status.message}")
    session.set({"fault": CHUNKS[chunk]})
    calls = len(peer.calls)
    session.drive(lambda: len(peer.calls) > calls + 3 and peer.moving, 20.0)
    return time.monotonic()


def _silence(session: Session, stream: str, chunk: str, last: float) -> tuple[StopTrial, float, float]:
    peer, without = session.peer, SILENT[stream]
    session.drive_for(last + LIMIT_MS * 1e-3 + 0.3 - time.monotonic(), without=without)
    session.drive(lambda: not peer.moving, 5.0, without=without)
    stopped = peer.stopped_at()
    if stopped is None:
        return StopTrial(stream, chunk, None, 0.0), last, time.monotonic()
    return StopTrial(stream, chunk, (stopped - last) * 1e3, 0.0), last, stopped


def _false_stops(history: list[tuple[float, bool]], window: tuple[float, float], stalls: Stalls) -> Stops:
    inside = [command for command in history if window[0] <= command[0] <= window[1]]
    arrivals, safe = np.array(inside).reshape(-1, 2).T
    return judge_stops(arrivals, safe.astype(bool), CHUNK_S, stalls, Stalls())


def summary(run: StopRun) -> dict[str, Any]:
    """Figures of a run; percentiles are over all trials in which the arm stopped."""
    times = [t.stopped_ms for t in run.trials if t.stopped_ms is not None]
    by_chunk = {c: [t.stopped_ms for t in run.trials if t.chunk == c and t.stopped_ms is not None] for c in CHUNKS}
    return {
        "trials": len(run.trials),
        "in_time": sum(t.in_time for t in run.trials),
        "late_with_the_machine_at_rest": sum(t.by_machine for t in run.trials),
        "late": sum(not t.in_time and not t.by_machine for t in run.trials),
        "limit_ms": LIMIT_MS,
        "stopped_ms": _figures(times),
        **{f"stopped_ms_{chunk}_chunks": _figures(values) for chunk, values in by_chunk.items()},
        "healthy_s": round(run.healthy_s, 1),
        "false_stops": run.stops - run.stops_by_machine,
        "stops_with_the_machine_at_rest": run.stops_by_machine,
    }


def _figures(times: list[float]) -> dict[str, float] | None:
    if not times:
        return None
    return {name: round(float(np.percentile(times, p)), 1) for name, p in
            (("p50", 50), ("p90", 90), ("p99", 99), ("worst", 100))}  # fmt: skip
