"""From what was heard and sampled to the figures of a soak run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .deadlines import DEADLINE_PERIODS, Deadlines, Stalls, Stops, judge_deadlines, judge_stops
from .memory import ProcessRecord, growth

STOP_REACH_S = 0.3  # what happened so long before a stop may have caused it: a chunk of 0.2 s and the call that made it
PERCENTILES = (50, 95, 99, 99.9, 100)
BINS = 900  # of the curves over time


@dataclass
class Heard:
    """What the node said, in order of arrival; times in seconds of the steady clock.

    Attributes:
        arrived_s, sent_s: of each command; sent by the node's stamp, an epoch of its own. safe: velocity zero.
        policy_ms, age_ms: of each policy call. counters: of diagnostics at the begin and at the end.
        levels: seconds with each message of diagnostics.
    """

    arrived_s: list[float] = field(default_factory=list)
    sent_s: list[float] = field(default_factory=list)
    safe: list[bool] = field(default_factory=list)
    policy_ms: list[float] = field(default_factory=list)
    age_ms: list[float] = field(default_factory=list)
    counters: list[dict[str, int]] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)


@dataclass
class SoakRun:
    """Everything of one run.

    Attributes:
        period_s: of commands. memory_warm_up_s: of the memory curve, not counted. stalls: of the machine.
        late: in which a sensor was late. steal_percent: time that the host took from this machine, None: unknown.
    """

    period_s: float
    memory_warm_up_s: float
    heard: Heard
    process: ProcessRecord
    stalls: Stalls = field(default_factory=Stalls)
    late: Stalls = field(default_factory=Stalls)
    steal_percent: float | None = None

    @cached_property
    def arrived(self) -> np.ndarray:
        """(N,) seconds when each command came."""
        return np.array(self.heard.arrived_s)

    @cached_property
    def deadlines(self) -> Deadlines:
        """Of the commands as they came."""
        return judge_deadlines(self.arrived, self.period_s, self.stalls)

    @cached_property
    def stops(self) -> Stops:
        """In the midst of motion."""
        return judge_stops(self.arrived, np.array(self.heard.safe, bool), STOP_REACH_S, self.stalls, self.late)


def figures(run: SoakRun) -> dict[str, Any]:
    """All figures, ready for JSON.

    Raises:
        ValueError: too few commands or memory samples to say anything.
    """
    heard = run.heard
    arrived, sent, deadlines, stops = run.arrived, np.array(heard.sent_s), run.deadlines, run.stops
    seconds = float(arrived[-1] - arrived[0]) if len(arrived) else 0.0
    in_run = (run.stalls.ends > arrived[0]) & (run.stalls.starts < arrived[-1])
    stall_ms = (run.stalls.ends - run.stalls.starts)[in_run] * 1e3
    return {
        "seconds": round(seconds, 1),
        "commands": len(arrived),
        "command_period_ms": round(run.period_s * 1e3, 3),
        "deadline_ms": round(DEADLINE_PERIODS * run.period_s * 1e3, 3),
        "deadlines": _deadlines(deadlines),
        # The same by the stamps of the commands: without transport and without delays of the listener.
        "deadlines_by_stamp": _deadlines(judge_deadlines(sent + (arrived[0] - sent[0]), run.period_s, run.stalls)),
        "interval_ms": _percentiles(np.diff(arrived) * 1e3),
        "stops": {
            "all": len(stops.starts),
            "machine_stalled": int(stops.by_stall.sum()),
            "sensor_late": int((stops.by_sensor & ~stops.by_stall).sum()),
            "false_stops": stops.false_stops,
            # Stops are counted where they begin: an arm that never moved has none, and all of its commands are safe.
            "safe_commands": int(np.sum(heard.safe)),
            "safe_commands_percent": round(100 * float(np.mean(heard.safe)), 3),
        },
        "policy_calls": len(heard.policy_ms),
        "policy_ms": _percentiles(np.array(heard.policy_ms)),
        "observation_age_ms": _percentiles(np.array(heard.age_ms)),
        "counters": _counted(heard.counters),
        "diagnostics_s": dict(heard.messages.most_common()),
        "machine_stalls": {
            "count": len(stall_ms),
            "share_percent": round(float(stall_ms.sum() / max(seconds, 1e-9) / 10), 3),
            "ms": _percentiles(stall_ms),
            "steal_percent": run.steal_percent,
        },
        "sensors_late": len(run.late.starts),
        "node": node_growth(run),
    }


def node_growth(run: SoakRun) -> dict[str, Any]:
    """Growth of memory, threads and open files of the node after warm-up."""
    record = run.process
    time = np.array(record.time_s)
    used = time >= time[0] + run.memory_warm_up_s if len(time) else np.zeros(0, bool)
    out: dict[str, Any] = {"warm_up_s": run.memory_warm_up_s}
    for name in ("rss_mb", "anonymous_mb", "threads", "files"):
        grown = growth(time[used], np.array(getattr(record, name))[used])
        out[name] = {key: round(value, 3) for key, value in grown.items()}
    return out


def curves(run: SoakRun) -> dict[str, Any]:
    """Memory and command intervals over time, for plots and for JSON; seconds from the first command."""
    arrived, record, deadlines, stops = run.arrived, run.process, run.deadlines, run.stops
    begin = arrived[0]
    interval_ms, end_s = np.diff(arrived) * 1e3, arrived[1:] - begin
    edges = np.linspace(0, end_s[-1], min(BINS, max(1, int(end_s[-1]))) + 1)
    place = np.clip(np.searchsorted(edges, end_s, side="right") - 1, 0, len(edges) - 2)
    filled = np.unique(place)
    parts = [interval_ms[place == i] for i in filled]
    gap = deadlines.gaps
    return {
        "memory": {
            "time_s": _rounded(np.array(record.time_s) - begin),
            "rss_mb": _rounded(record.rss_mb),
            "anonymous_mb": _rounded(record.anonymous_mb),
            "threads": record.threads,
            "files": record.files,
        },
        "intervals": {
            "time_s": _rounded(edges[filled]),
            "median_ms": _rounded([np.median(part) for part in parts]),
            "largest_ms": _rounded([part.max() for part in parts]),
        },
        "late_commands": {
            "time_s": _rounded(arrived[gap + 1] - begin),
            "interval_ms": _rounded(interval_ms[gap]),
            "machine_stalled": deadlines.by_stall.tolist(),
        },
        "stops": {
            "time_s": _rounded(stops.starts - begin),
            "length_s": _rounded(stops.ends - stops.starts),
            "machine_stalled": stops.by_stall.tolist(),
            "sensor_late": stops.by_sensor.tolist(),
        },
    }


def _deadlines(deadlines: Deadlines) -> dict[str, Any]:
    return {
        "share_percent": round(100 * deadlines.share, 4),
        "share_percent_without_machine_stalls": round(100 * deadlines.share_without_stalls, 4),
        "all": deadlines.met + deadlines.missed,
        "missed": deadlines.missed,
        "missed_while_machine_stalled": deadlines.missed_by_stall,
        "late_commands": len(deadlines.gaps),
    }


def _percentiles(values: np.ndarray) -> dict[str, float] | None:
    if not len(values):
        return None
    return {f"p{p:g}" if p < 100 else "max": round(float(np.percentile(values, p)), 3) for p in PERCENTILES}


def _counted(counters: list[dict[str, int]]) -> dict[str, int]:
    """What the node's own counters rose by."""
    if len(counters) < 2:
        return {}
    first, last = counters[0], counters[-1]
    return {name: value - first.get(name, 0) for name, value in last.items()}


def _rounded(values: Any) -> list[float]:
    return np.round(np.asarray(values, np.float64), 3).tolist()
