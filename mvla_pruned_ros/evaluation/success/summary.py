"""What rows say together: paired differences, and means over tasks. Rows in, rows out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .statistics import mean_interval, mean_paired_interval, paired_interval

Row = dict[str, Any]

# What a row is compared with, by the name of the difference. The other row has to be of the same task, policy, delay
# and instruction, and to hold all seeds of this one.
BASELINES: dict[str, Callable[[Row, Row], bool]] = {
    "minus_none": lambda row, other: other["method"] == "none" != row["method"],
    "minus_random": lambda row, other: (
        other["method"] == "random" != row["method"] and other["keep_asked"] == row["keep_asked"]
    ),
    # Tri-stage with the policy's own settings, which the others would have to beat.
    "minus_tri_stage": lambda row, other: (
        other["method"] == "tri_stage" != row["method"]
        and not other["pruning"]
        and other["keep_asked"] == row["keep_asked"]
    ),
    # The same pruning with the policy's own settings: what an ablation takes away.
    "minus_default": lambda row, other: (
        bool(row["pruning"])
        and not other["pruning"]
        and (other["method"], other["keep_asked"]) == (row["method"], row["keep_asked"])
    ),
}


def device_of(row: Row) -> str:
    """Where the policy ran; rows of older versions name none."""
    return row.get("device", "cpu")


def condition(row: Row) -> tuple[Any, ...]:
    """Rows can stand in one table when these agree: policy, device, delay, seeds, and whether instructions are
    exchanged."""
    exchanged = row["instruction_of"] is not None
    return row["policy"]["fingerprint"], device_of(row), row["delay"], row["first_seed"], row["episodes"], exchanged


def with_differences(rows: Sequence[Row]) -> list[Row]:
    """Each row with ``minus_none``, ``minus_random``, ``minus_tri_stage`` and ``minus_default``: [difference, low,
    high], or None where there is nothing to compare with. See ``paired_interval``."""
    result = []
    for row in rows:
        differences = {}
        for name in BASELINES:
            other = _baseline(rows, row, name)
            differences[name] = _rounded(paired_interval(_successes(row), other)) if other else None
        result.append({**row, **differences})
    return result


def mean_rows(rows: Sequence[Row]) -> list[Row]:
    """A row for every setting that was run on several tasks, each of which weighs alike.

    Returns:
        Rows with ``tasks``, their names; ``success`` and ``interval``, see ``mean_interval``; the differences of
        ``with_differences`` over the tasks, see ``mean_paired_interval``, None unless every task has one;
        ``keep_measured``, ``policy_ms_p50`` and ``selection_ms_p50``, means of the tasks' values.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["instruction_of"] is None:  # with exchanged instructions success is not what is wanted
            names = ("method", "keep_asked", "pruning", "tri_stage")
            groups.setdefault(json.dumps([condition(row), *(row[name] for name in names)]), []).append(row)
    return [_mean_row(rows, group) for group in groups.values() if len(group) > 1]


def _mean_row(rows: Sequence[Row], group: list[Row]) -> Row:
    first = group[0]
    copied = ["policy", "method", "keep_asked", "pruning", "tri_stage", "delay", "instruction_of", "first_seed"]
    copied += ["device"] if "device" in first else []
    mean, low, high = mean_interval([r["successes"] for r in group], [r["episodes"] for r in group])
    result = {name: first[name] for name in copied} | {
        "episodes": first["episodes"],
        "tasks": [r["task"] for r in group],
        "success": round(mean, 4),
        "interval": _rounded((low, high)),
    }
    for name in ("keep_measured", "policy_ms_p50", "selection_ms_p50"):
        values = [r[name] for r in group if r[name] is not None]
        result[name] = round(float(np.mean(values)), 4) if values else None
    for name in BASELINES:
        others = [_baseline(rows, row, name) for row in group]
        found = [other for other in others if other is not None]
        complete = len(found) == len(group)
        result[name] = _rounded(mean_paired_interval([_successes(r) for r in group], found)) if complete else None
    return result


def _baseline(rows: Sequence[Row], row: Row, name: str) -> list[bool] | None:
    """Success of the row to compare with, on the seeds of ``row``."""
    for other in rows:
        same = all(other[k] == row[k] for k in ("task", "delay", "instruction_of"))
        start = row["first_seed"] - other["first_seed"]
        covered = 0 <= start <= other["episodes"] - row["episodes"]
        same_policy = other["policy"]["fingerprint"] == row["policy"]["fingerprint"] and device_of(other) == device_of(
            row
        )
        if same and same_policy and covered and BASELINES[name](row, other):
            return _successes(other)[start : start + row["episodes"]]
    return None


def _successes(row: Row) -> list[bool]:
    return [bool(x) for x in row["success_by_seed"]]


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(x, 4) + 0.0 for x in values]  # + 0.0: no -0.0
