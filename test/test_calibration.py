"""Calibration: the search finds what is better, the measure is zero where nothing is dropped, bad files are refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mvla_pruned_ros.evaluation.calibration.descent import GRID, HORIZON, Recording, action_error, descend, neighbours
from mvla_pruned_ros.policy.engine.stage_timer import StageTimer
from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
from mvla_pruned_ros.pruning.methods import make_pruner
from mvla_pruned_ros.pruning.tri_stage.config import TriStageConfig
from mvla_pruned_ros.pruning.types import Selection
from mvla_pruned_ros.types import Observation


@pytest.fixture
def recording(tiny_policy_folder: Path, observation: Callable[..., Observation]) -> tuple[MVLAPolicy, Recording]:
    policy = MVLAPolicy.load(tiny_policy_folder)
    prepared = [policy.prepare(observation()) for _ in range(3)]
    instruction = observation().instruction
    outputs = [policy.act(p, Selection.full(p.layout), instruction, StageTimer()) for p in prepared]
    actions = np.stack([output.actions[:HORIZON] for output in outputs])
    attention = tuple(output.evidence.attention for output in outputs)
    return policy, Recording("push", instruction, tuple(prepared), actions, attention)


def test_error_is_zero_when_nothing_is_dropped_and_not_when_most_is(recording: tuple[MVLAPolicy, Recording]) -> None:
    policy, episode = recording
    scale = np.ones(4)
    assert action_error(policy, episode, make_pruner("tri_stage", 1.0), scale) == 0
    assert action_error(policy, episode, make_pruner("tri_stage", 0.1), scale) > 0


def test_error_is_measured_in_units_of_the_scale(recording: tuple[MVLAPolicy, Recording]) -> None:
    policy, episode = recording
    one, two = (action_error(policy, episode, make_pruner("random", 0.25), np.full(4, s)) for s in (1.0, 2.0))
    assert one == pytest.approx(2 * two)


def test_search_finds_the_best_of_parameters_that_do_not_interact() -> None:
    target = TriStageConfig(smoothing=0.2, overlap_discount=0.75, window=8, stage_modality=True)

    def evaluate(configs: list[TriStageConfig]) -> list[float]:
        fields = [f.name for f in dataclasses.fields(TriStageConfig)]
        return [float(sum(getattr(c, n) != getattr(target, n) for n in fields)) for c in configs]

    steps: list[str] = []
    best, error = descend(evaluate, TriStageConfig(), 2, lambda name, *_: steps.append(name))
    assert (best, error) == (target, 0.0)
    assert steps == ["smoothing", "overlap_discount", "stage_modality", "window"]


def test_search_stays_where_it_is_when_nothing_is_better() -> None:
    start = TriStageConfig(window=2)
    assert descend(lambda configs: [1.0] * len(configs), start, 3, lambda *_: None) == (start, 1.0)


def test_neighbours_differ_in_one_parameter_and_are_all_allowed() -> None:
    start = TriStageConfig()
    found = list(neighbours(start))
    assert {name for name, _ in found} == set(GRID)
    for name, config in found:
        assert dataclasses.replace(config, **{name: getattr(start, name)}) == start


def test_calibration_of_a_policy_folder_is_used_and_its_absence_means_defaults(tmp_path: Path) -> None:
    assert TriStageConfig.of_policy(tmp_path) == TriStageConfig()
    (tmp_path / "pruning.json").write_text(json.dumps({"tri_stage": {"return_share": 0.3, "window": 2}}))
    assert TriStageConfig.of_policy(tmp_path) == TriStageConfig(return_share=0.3, window=2)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not a calibration file"),
        ("[]", "not a calibration file"),
        ('{"tri_stage": {"magic": 1}}', "unknown parameter 'magic'"),
        ('{"tri_stage": {"window": "4"}}', "window is '4', must be a whole number"),
        ('{"tri_stage": {"return_share": 2.0}}', "return_share must lie in \\[0, 0.9\\], got 2.0"),
    ],
)
def test_broken_calibration_file_is_refused_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pruning.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        TriStageConfig.load(path)
    assert str(path) in str(error.value)
