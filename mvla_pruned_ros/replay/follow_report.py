"""What following a bag comes to: the same actions, or how far apart and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..configuration.files import write_json
from ..policy.base import Policy
from ..policy.engine.device import thread_count
from ..policy.engine.machine import machine
from .compare import named
from .follow import FollowedCall, RecordedCalls, follow

# Float32 through a few layers, on another CPU or with another build of torch; commands are of the order of 0.1.
TOLERANCE = 1e-4
VERDICTS = ("exact", "within float tolerance", "different")


def follow_bag(
    calls: RecordedCalls, policy: Policy, here: Mapping[str, Any], out: Path, on_call: Callable[[int, int], None]
) -> dict[str, Any]:
    """Follow, and write ``follow.json`` and ``calls.jsonl`` (a row per call) into a folder.

    Args:
        here: what this runs on, with the keys of ``CallRecord.node``. on_call: told how many calls are done, and how
            many there are at most.

    Returns:
        What is in follow.json.

    Raises:
        ValueError: no call could be followed; says why.
    """
    skipped: Counter[str] = Counter()
    tally, total = _Tally(), len(calls.records)
    with (out / "calls.jsonl").open("w") as rows:
        for one in follow(calls, policy, skipped):
            rows.write(json.dumps(tally.add(one)) + "\n")
            on_call(tally.followed + skipped.total(), total)
    if tally.largest is None:
        causes = "; ".join(f"{cause}: {count}" for cause, count in skipped.items())
        raise ValueError(
            f"no call of {calls.topic} can be followed: {causes}. Begin the recording before an episode, or call the "
            "node's ~/reset after its beginning"
        )
    record = calls.records[0][1]
    numbers = {
        "topic": calls.topic,
        "calls": total,
        "episodes": sum(r.since_reset == 0 for _, r in calls.records),
        "followed": tally.followed,
        "skipped": dict(sorted(skipped.items())),
        "settings": dict(tally.settings),
        "verdict": tally.verdict,
        "actions_exact": tally.exact,
        "selections_same": tally.same,
        "largest_difference": named(tally.largest),
        "tolerance": TOLERANCE,
        "first_difference": tally.first,
        "causes": [] if tally.verdict == VERDICTS[0] else likely_causes(record.node, here, tally.first),
        "recorded_on": dict(record.node),
        "followed_on": dict(here),
    }
    write_json(out / "follow.json", numbers, allow_nan=False)
    return numbers


@dataclass
class _Tally:
    """What is counted over the calls.

    Attributes:
        followed: so many. exact: of them with the same actions, bit by bit. same: with the same tokens.
        largest: (A,) difference of actions, None before the first call. first: row of the first call that differs.
        settings: calls by pruning.
    """

    followed: int = 0
    exact: int = 0
    same: int = 0
    largest: np.ndarray | None = None
    first: dict[str, Any] | None = None
    settings: Counter[str] = field(default_factory=Counter)

    def add(self, one: FollowedCall) -> dict[str, Any]:
        """One more call; returns its row."""
        row = _row(one)
        self.followed += 1
        self.exact += row["exact"]
        self.same += not row["tokens_apart"]
        self.settings[f"{one.record.method} at {one.record.keep_ratio:g}"] += 1
        self.largest = one.difference if self.largest is None else np.maximum(self.largest, one.difference)
        if self.first is None and (row["tokens_apart"] or not row["exact"]):
            self.first = row
        return row

    @property
    def verdict(self) -> str:
        """One of ``VERDICTS``."""
        if self.exact == self.followed:
            return VERDICTS[0]
        return VERDICTS[1 if self.largest is not None and self.largest.max() <= TOLERANCE else 2]


def machine_here(policy: Any, folder: Path, device: str, precision: str, fingerprint: str) -> dict[str, Any]:
    """What this runs on, with the keys of ``CallRecord.node``."""
    return {
        "policy": str(folder), "fingerprint": fingerprint, "device": device, "device_name": policy.device_name,
        "precision": precision, "torch_threads": thread_count(), **machine(),
    }  # fmt: skip


def likely_causes(live: Mapping[str, Any], here: Mapping[str, Any], first: Mapping[str, Any] | None) -> list[str]:
    """Why the actions may differ: what is not the same on both sides."""
    found = [
        f"{name.replace('_', ' ')}: {live[name]} live, {here.get(name)} here"
        for name in ("device_name", "torch_threads", "torch", "cpu")
        if name in live and live[name] != here.get(name)
    ]
    if first is not None and first["tokens_apart"]:
        found.append(
            f"other tokens stayed, for the first time at call {first['since_reset']} after a reset, stamp "
            f"{first['stamp_ns']}: differences after it follow from that"
        )
    return found or ["none is known: device, threads, torch and CPU are the same"]


def _row(one: FollowedCall) -> dict[str, Any]:
    record = one.record
    return {
        "stamp_ns": record.stamp_ns,
        "since_reset": record.since_reset,
        "keep_ratio": record.keep_ratio,
        "kept": int(one.kept.sum()),
        "tokens_apart": one.tokens_apart,
        "exact": bool((one.difference == 0).all()),
        "difference": [float(f"{x:.6g}") for x in one.difference],
    }
