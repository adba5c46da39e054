"""Published rows of a shipped policy, and the same run again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from mvla_pruned_ros.evaluation.success.rows import row
from mvla_pruned_ros.evaluation.success.sweep import Setting, run_sweep
from mvla_pruned_ros.models import policy_folder
from mvla_pruned_ros.policy.fingerprint import policy_fingerprint
from mvla_pruned_ros.pruning.tri_stage.config import TriStageConfig

PAGES = Path(__file__).parents[1] / "docs" / "benchmarks"
Methods = tuple[tuple[str, float], ...]  # name and keep ratio asked for


def run(policy: str, task: str, seeds: list[int], methods: Methods, sensors: str = "") -> list[dict[str, Any]]:
    """Rows of a shipped policy as it is, one for each method."""
    folder = policy_folder(policy)
    own = TriStageConfig.of_policy(folder)
    settings = [
        Setting(task, str(folder), policy_fingerprint(folder), method, keep, own, sensors=sensors)
        for method, keep in methods
    ]
    return [
        row(setting, episodes, own).to_json() for setting, episodes in run_sweep(settings, seeds, 1, _quiet).items()
    ]


def published_rows(
    text: str, policy: str, methods: Methods, sensors: str = ""
) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of a shipped policy as it is, by task and method. Fails where the text of the file is not about it."""
    rows = json.loads(text)["rows"]
    again = "make the file again: its commands stand on the page beside it"
    old = [r for r in rows if not isinstance(r.get("policy"), dict) or "fingerprint" not in r["policy"]]
    if old:
        pytest.fail(f"{len(old)} of {len(rows)} published rows do not name the weights of their policy; {again}")
    shipped = policy_fingerprint(policy_folder(policy))
    stale = {r["policy"]["fingerprint"] for r in rows if r["policy"]["name"] == policy} - {shipped}
    if stale:
        pytest.fail(f"published rows are of {', '.join(sorted(stale))}, the shipped policy is {shipped}; {again}")
    found = {
        (r["task"], r["method"]): r
        for r in rows
        if (r["method"], r["keep_asked"]) in methods
        and (r["policy"]["fingerprint"], r["pruning"], r["delay"], r["instruction_of"], r.get("sensors", ""))
        == (shipped, {}, 0, None, sensors)
    }
    settings = dataclasses.asdict(TriStageConfig.of_policy(policy_folder(policy)))
    for r in found.values():
        if r["tri_stage"] not in (None, settings):
            pytest.fail(f"{r['task']} was published with other pruning settings than the policy has now; {again}")
    return found


def _quiet(*_: object) -> None:
    """No progress."""
