"""Keep ratios at which methods really spend the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

pytest.importorskip("metaworld", reason="the simulator extra is not installed: pip install .[sim]")

from mvla_pruned_ros.evaluation.success.match import LEAST, TOLERANCE, match_keep
from mvla_pruned_ros.evaluation.success.rollout import Episode
from mvla_pruned_ros.evaluation.success.row_file import merge
from mvla_pruned_ros.evaluation.success.rows import Row, row
from mvla_pruned_ros.evaluation.success.summary import mean_rows, with_differences
from mvla_pruned_ros.evaluation.success.sweep import Setting
from mvla_pruned_ros.pruning.tri_stage.config import TriStageConfig

SETTING = Setting("push", "small", "abc", "tri_stage", 1.0)


def episode(setting: Setting, steady: float | None, seed: int = 0, calls: int = 5) -> Episode:
    first = 1.0 if steady is None else (1.0 + (calls - 1) * steady) / calls
    return Episode(setting.task, seed, True, 50, False, first, (1.0,) * calls, (0.1,) * calls, keep_steady=steady)


def spends(
    rule: Callable[[float], float], tried: list[float]
) -> Callable[[list[Setting]], dict[Setting, list[Episode]]]:
    def measure(settings: list[Setting]) -> dict[Setting, list[Episode]]:
        tried.extend(s.keep for s in settings)
        return {s: [episode(s, rule(s.keep), seed) for seed in range(3)] for s in settings}

    return measure


@pytest.mark.parametrize(
    "rule",
    [lambda keep: keep, lambda keep: 0.1 + 0.9 * keep, lambda keep: 0.7 * keep, lambda keep: round(keep * 208) / 208],
    ids=["what is asked", "full calls in between", "less", "whole tokens"],
)
@pytest.mark.parametrize("target", [0.35, 0.15])
def test_keep_ratio_is_found_at_which_a_method_spends_what_is_wanted(
    rule: Callable[[float], float], target: float
) -> None:
    tried: list[float] = []
    ([found], left_out) = match_keep([SETTING], target, spends(rule, tried))
    assert not left_out
    assert abs(rule(found.keep) - target) <= TOLERANCE
    assert found.match_steady == target and dataclasses.replace(found, keep=1.0, match_steady=None) == SETTING
    assert len(tried) <= 6


def test_what_cannot_spend_so_little_is_left_out_with_what_it_spends() -> None:
    tried: list[float] = []
    found, [line] = match_keep([SETTING], 0.15, spends(lambda keep: 0.3 + 0.7 * keep, tried))
    assert not found
    assert min(tried) == LEAST and "push tri_stage" in line and "spent 0.335" in line


def test_what_jumps_over_it_is_left_out() -> None:
    found, [line] = match_keep([SETTING], 0.25, spends(lambda keep: 0.1 if keep < 0.3 else 0.6, []))
    assert not found and "spends 0.25" in line


def rows_of(kept: dict[str, float], match: float | None, task: str = "push") -> list[Row]:
    settings = [Setting(task, "small", "abc", method, keep, match_steady=match) for method, keep in kept.items()]
    return [row(s, [episode(s, 0.15, seed) for seed in range(2)], TriStageConfig()) for s in settings]


def test_rows_of_equal_spending_are_compared_whatever_was_asked() -> None:
    rows = rows_of({"tri_stage": 0.15, "vla_pruner": 0.08}, 0.15) + rows_of({"vla_pruner": 0.15}, None)
    matched, asked = with_differences(rows)[1:]
    assert matched.differences["minus_tri_stage"] is not None
    assert asked.differences["minus_tri_stage"] is None, "asked for as much, which is another comparison"
    assert matched.keep_steady == 0.15 and matched.keep_measured == pytest.approx((1 + 4 * 0.15) / 5)


def test_means_are_over_tasks_of_equal_spending() -> None:
    rows = rows_of({"vla_pruner": 0.08}, 0.15) + rows_of({"vla_pruner": 0.12}, 0.15, "faucet-open")
    [mean] = mean_rows(with_differences(rows))
    assert mean.match_steady == 0.15 and mean.keep_asked == pytest.approx(0.1) and mean.keep_steady == 0.15


def test_a_matched_row_replaces_its_like_and_no_row_that_was_asked_for() -> None:
    old = rows_of({"tri_stage": 0.15}, 0.15) + rows_of({"tri_stage": 0.15}, None)
    assert len(merge(old, rows_of({"tri_stage": 0.14}, 0.15))) == 2
    assert Row.from_json(old[0].to_json()) == old[0]


def test_mean_of_later_calls_is_not_known_where_one_episode_does_not_say() -> None:
    episodes = [episode(SETTING, 0.2), episode(SETTING, None, 1)]
    assert row(SETTING, episodes, TriStageConfig()).keep_steady is None
    once = episode(SETTING, None, 1, calls=1)  # solved before a second call
    assert row(SETTING, [episode(SETTING, 0.2), once], TriStageConfig()).keep_steady == 0.2
