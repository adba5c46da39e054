"""Calibration: the search finds what is better, the measure is zero where nothing is dropped, bad files are refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.evaluation.calibration.descent import BAG_GRID, GRID, descend, grid_of, neighbours
from mvla_pruned_ros.evaluation.calibration.recorded import Recording, action_error, unpruned
from mvla_pruned_ros.evaluation.calibration.sweep import CalibrationSweep
from mvla_pruned_ros.policy.base import Policy
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
from mvla_pruned_ros.pruning.methods import make_pruner
from mvla_pruned_ros.pruning.tri_stage.config import TriStageConfig
from mvla_pruned_ros.types import Observation

GRID_OF_SMALL = grid_of(MVLAConfig().token_spacing)


@dataclass(frozen=True)
class Shown:
    """An episode that is at hand."""

    instruction: str
    prepared: tuple[Any, ...]
    group: str = "push"
    seed: int = 0

    def show(self, policy: Policy) -> tuple[str, tuple[Any, ...]]:
        return self.instruction, self.prepared


@pytest.fixture
def recording(tiny_policy_folder: Path, observation: Callable[..., Observation]) -> tuple[MVLAPolicy, Recording]:
    policy = MVLAPolicy.load(tiny_policy_folder)
    prepared = tuple(policy.prepare(observation()) for _ in range(3))
    return policy, unpruned(policy, Shown(observation().instruction, prepared))


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
    best, error = descend(evaluate, TriStageConfig(), 2, lambda name, *_: steps.append(name), GRID_OF_SMALL)
    assert (best, error) == (target, 0.0)
    assert steps == ["smoothing", "overlap_discount", "stage_modality", "window"]


def test_search_stays_where_it_is_when_nothing_is_better() -> None:
    start = TriStageConfig(window=2)
    assert descend(lambda configs: [1.0] * len(configs), start, 3, lambda *_: None, GRID_OF_SMALL) == (start, 1.0)


def test_neighbours_differ_in_one_parameter_and_are_all_allowed() -> None:
    start, grid = TriStageConfig(stage_modality=True), grid_of(0.05, BAG_GRID)
    found = list(neighbours(start, grid))
    assert {name for name, _ in found} == set(grid) > set(GRID)
    for name, config in found:
        assert dataclasses.replace(config, **{name: getattr(start, name)}) == start


def test_parameters_of_a_stage_that_is_off_are_not_tried() -> None:
    tried = {name for name, _ in neighbours(TriStageConfig(stage_semantic=False), grid_of(0.05, BAG_GRID))}
    assert "stage_semantic" in tried and "smoothing" in tried
    assert tried.isdisjoint({"robot_reserve", "object_threshold", "window"})


def test_radii_that_are_tried_follow_the_spacing_of_tokens() -> None:
    assert grid_of(0.1)["robot_radius_m"] == (0.0, 0.1, 0.15, 0.3)


def test_groups_weigh_alike_however_many_episodes_they_have() -> None:
    @dataclass(frozen=True)
    class Named:
        group: str
        seed: int

    sweep = CalibrationSweep(Path(), [Named("a", 0), Named("b", 1), Named("a", 2)], (0.5, 0.2), 1)  # type: ignore[list-item]
    told: list[int] = []
    sweep.on_setting = lambda: told.append(1)
    sweep._scale = np.ones(4)
    with sweep:
        sweep._pool.imap = lambda _, jobs, chunksize: (job[3] * (1 + job[1].seed) for job in jobs)  # type: ignore
        [errors] = sweep._errors("random", [None])
    np.testing.assert_allclose(errors, [[0.5 * 2, 0.2 * 2], [0.5 * 2, 0.2 * 2]])
    assert told == [1]


@pytest.mark.parametrize(
    "words, message",
    [
        ("--held-out-bag b", "--held-out-bag is for --bag"),
        ("--frames 9", "--frames is for --bag"),
        ("--instruction push", "--instruction is for --bag"),
        ("--bag a --tasks push", "--tasks is for tasks of the simulator"),
        ("--bag a --seed 0", "--seed is for tasks of the simulator"),
        ("--bag a b --held-out-bag b", "b: a bag that is fitted to cannot be held out"),
        ("--tasks push --held-out push", "push: a task that is fitted to cannot be held out"),
        ("--bag nowhere", "bag nowhere does not exist"),
    ],
)
def test_what_does_not_go_together_is_refused(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", *words.split()]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


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
