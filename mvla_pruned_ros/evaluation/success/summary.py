"""What rows say together: paired differences, and means over tasks. Rows in, rows out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..grouping import grouped
from .intervals import mean_interval, mean_paired_interval, paired_interval, paired_mean_interval
from .rows import MeanRow, Row

# What a row is compared with, by the name of the difference. The other row has to be of the same task, policy,
# circumstances and instruction, and to hold all seeds of this one.
BASELINES: dict[str, Callable[[Row, Row], bool]] = {
    "minus_none": lambda row, other: other.method == "none" != row.method,
    "minus_random": lambda row, other: other.method == "random" != row.method and other.aim == row.aim,
    # Tri-stage with the policy's own settings, which the others would have to beat.
    "minus_tri_stage": lambda row, other: (
        other.method == "tri_stage" != row.method and not other.pruning and other.aim == row.aim
    ),
    # The same pruning with the policy's own settings: what an ablation takes away.
    "minus_default": lambda row, other: (
        bool(row.pruning) and not other.pruning and (other.method, other.aim) == (row.method, row.aim)
    ),
}


COMPLETION = "completion_minus_none"

# What the rows of one mean agree in.
SHARED = (
    "policy", "method", "match_steady", "pruning", "tri_stage", "delay", "latency", "replan", "sensors",
    "instruction_of", "first_seed", "device",
)  # fmt: skip


def with_differences(rows: Sequence[Row]) -> list[Row]:
    """Each row with ``minus_none``, ``minus_random``, ``minus_tri_stage`` and ``minus_default``: [difference, low,
    high], or None where there is nothing to compare with. See ``paired_interval``. Where both solved two episodes or
    more, ``completion_minus_none`` as well, seconds; see ``paired_mean_interval``."""
    result = []
    for row in rows:
        differences = {}
        for name in BASELINES:
            other = _baseline(rows, row, name)
            differences[name] = _rounded(paired_interval(row.solved, other.solved)) if other else None
        # A file that is made again keeps the order of its entries.
        result.append(dataclasses.replace(row, differences=row.differences | differences | _completion(rows, [row])))
    return result


def mean_rows(rows: Sequence[Row]) -> list[MeanRow]:
    """A row for every setting that was run on several tasks.

    Returns:
        ``success`` and ``interval``: see ``mean_interval``. The differences of ``with_differences`` over the tasks, see
        ``mean_paired_interval``: None unless every task has one; in ``completion_minus_none`` each episode weighs
        alike. ``keep_asked``, ``keep_measured``, ``keep_steady``, ``policy_ms_p50``, ``selection_ms_p50``,
        ``completion_s``, ``path_m`` and ``jerk_m_s3``: means of the tasks' values.
    """
    # With exchanged instructions success is not what is wanted.
    groups = grouped((row for row in rows if row.instruction_of is None), lambda row: row.setting)
    return [_mean_row(rows, group) for group in groups.values() if len(group) > 1]


def _mean_row(rows: Sequence[Row], group: list[Row]) -> MeanRow:
    mean, low, high = mean_interval([row.successes for row in group], [row.episodes for row in group])
    differences: dict[str, list[float] | None] = {}
    for name in BASELINES:
        found = [other.solved for row in group if (other := _baseline(rows, row, name)) is not None]
        complete = len(found) == len(group)
        differences[name] = _rounded(mean_paired_interval([r.solved for r in group], found)) if complete else None
    return MeanRow(
        **{name: getattr(group[0], name) for name in SHARED},
        keep_asked=round(float(np.mean([row.keep_asked for row in group])), 4),
        episodes=group[0].episodes,
        tasks=[row.task for row in group],
        success=round(mean, 4),
        interval=_rounded((low, high)),
        keep_measured=_mean(row.keep_measured for row in group),
        keep_steady=_mean(row.keep_steady for row in group),
        policy_ms_p50=_mean(row.policy_ms_p50 for row in group),
        selection_ms_p50=_mean(row.selection_ms_p50 for row in group),
        completion_s=_mean(row.completion_s for row in group),
        path_m=_mean(row.path_m for row in group),
        jerk_m_s3=_mean(row.jerk_m_s3 for row in group),
        differences=differences | _completion(rows, group),
    )


def _completion(rows: Sequence[Row], group: Iterable[Row]) -> dict[str, list[float] | None]:
    """``completion_minus_none`` over all episodes of a group that both solved; empty where that is not known."""
    pairs = [
        (mine, others)
        for row in group
        if (other := _baseline(rows, row, "minus_none")) is not None
        for mine, others in zip(row.completion_by_seed or (), other.completion_by_seed or ())
    ]
    found = paired_mean_interval([a - b for a, b in pairs if a is not None and b is not None])
    return {} if found is None else {COMPLETION: _rounded(found)}


def _baseline(rows: Sequence[Row], row: Row, name: str) -> Row | None:
    """The row to compare with, cut to the seeds of ``row``."""

    def of(row: Row) -> tuple[Any, ...]:
        return row.task, row.instruction_of, row.circumstances, row.policy["fingerprint"], row.ran_on

    for other in rows:
        start = row.first_seed - other.first_seed
        covered = 0 <= start <= other.episodes - row.episodes
        if of(other) == of(row) and covered and BASELINES[name](row, other):
            seeds, times = slice(start, start + row.episodes), other.completion_by_seed
            return dataclasses.replace(
                other,
                success_by_seed=other.success_by_seed[seeds],
                completion_by_seed=None if times is None else times[seeds],
            )
    return None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if known else None


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(x, 4) + 0.0 for x in values]  # + 0.0: no -0.0
