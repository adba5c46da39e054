"""Rows: the episodes of one task and setting summed up, and the file that holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ...pruning.tri_stage.config import TriStageConfig
from ...sim.tasks import task_named
from .rollout import Episode
from .statistics import wilson_interval
from .summary import Row, device_of, mean_rows, with_differences
from .sweep import Setting

# Rows that agree in these are of one setting and the same first seed: the newer one replaces the older.
IDENTITY = ("task", "method", "keep_asked", "pruning", "delay", "instruction_of", "first_seed")


def row(setting: Setting, episodes: Sequence[Episode], own: TriStageConfig) -> Row:
    """One row of the result file.

    Args:
        setting, episodes: what was run, in the order of the seeds. own: the tri_stage settings of the policy itself.

    Returns:
        Among others: ``interval``, 95 % Wilson, of the success rate; ``steps_median`` of the successful episodes;
        ``policy_ms_p50`` and ``selection_ms_p50`` over all calls; ``tri_stage``, all its parameters, and ``pruning``,
        those that differ from the policy's own.
    """
    successes = sum(e.success for e in episodes)
    solved = [e.steps for e in episodes if e.success]
    calls = [len(e.policy_ms) for e in episodes]
    kept = [e.keep_ratio or 0.0 for e in episodes]
    asked = setting.tri_stage
    return {
        "policy": {"name": Path(setting.policy).name, "fingerprint": setting.fingerprint},
        "task": setting.task,
        "method": setting.method,
        "keep_asked": setting.keep,
        "keep_measured": round(float(np.average(kept, weights=calls)), 4) if sum(calls) else None,
        "pruning": {k: v for k, v in asked.items() if v != getattr(own, k)} if asked else {},
        "tri_stage": asked,
        "delay": setting.delay,
        "device": setting.device,
        "instruction_of": task_named(setting.task).partner if setting.swap else None,
        "first_seed": episodes[0].seed,
        "episodes": len(episodes),
        "successes": successes,
        "interval": [round(x, 4) for x in wilson_interval(successes, len(episodes))],
        "partner_successes": sum(e.partner_success for e in episodes) if setting.swap else None,
        "steps_median": float(np.median(solved)) if solved else None,
        "policy_ms_p50": _median(t for e in episodes for t in e.policy_ms),
        "selection_ms_p50": _median(t for e in episodes for t in e.select_ms),
        "success_by_seed": [int(e.success) for e in episodes],
    }


def merge(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Old rows, those of ``new`` in the place of their like, then what is really new.

    A row stays when the new one of the same setting has but some of its episodes.
    """
    rows = {identity(r): r for r in old}
    for r in new:
        known = rows.get(identity(r))
        if known is None or known["episodes"] <= r["episodes"] or known["tri_stage"] != r["tri_stage"]:
            rows[identity(r)] = r
    return list(rows.values())


def read_rows(path: Path) -> list[Row]:
    """Rows of a result file.

    Raises:
        ValueError: no such file, or of an older format.
    """
    try:
        rows = json.loads(path.read_text())["rows"]
        for r in rows:
            identity(r)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a file of `mvla evaluate --json`, or of an older format: give another name ({error!r})"
        ) from None
    return rows


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Rows with their differences, and their means over tasks; one a line, so that a changed row is a changed line.

    The file is written whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    blocks = {"rows": with_differences(rows), "means": mean_rows(rows)}
    texts = (f' "{name}": [\n' + ",\n".join("  " + json.dumps(r) for r in b) + "\n ]" for name, b in blocks.items())
    partial.write_text("{\n" + ",\n".join(texts) + "\n}\n")
    partial.rename(path)


def identity(r: Row) -> str:
    """Which setting a row is of."""
    return json.dumps([r["policy"]["fingerprint"], device_of(r), *(r[name] for name in IDENTITY)])


def _median(values: Iterable[float]) -> float | None:
    listed = list(values)
    return round(float(np.median(listed)), 3) if listed else None
