"""Calibration on recorded bags: which frames are taken, and the command from end to end without a simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bags import numbers_of, write_bag
from conftest import camera_at

from mvla_pruned_ros.bags.setup import BagSetup
from mvla_pruned_ros.evaluation.calibration import stretches as module
from mvla_pruned_ros.evaluation.calibration.stretches import bag_stretches
from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
from mvla_pruned_ros.pruning.tri_stage.config import TriStageConfig
from mvla_pruned_ros.types import Observation

WORDS = "push the puck to the goal"
SETUP = replace(BagSetup(), base_from_camera=camera_at().base_from_camera)


def frames(observation: Callable[..., Observation], first: int, count: int, hz: float = 10.0) -> list[Observation]:
    return [observation(i, stamp_ns=int((10 + i / hz) * 1e9)) for i in range(first, first + count)]


@pytest.fixture
def policy(tiny_policy_folder: Path) -> MVLAPolicy:
    return MVLAPolicy.load(tiny_policy_folder)


def taken(
    bag: Path, policy: MVLAPolicy, out: Path, most_hz: float = 0.0, most_frames: int = 1000
) -> tuple[list[int], dict]:
    """How many frames each stretch has, and the report."""
    found, report = bag_stretches(bag, SETUP, policy, out, most_hz, most_frames, lambda *_: None)
    shown = [one.show(policy) for one in found]
    assert all(words == WORDS for words, _ in shown) and len({one.path for one in found}) == len(found)
    assert {one.path for one in found} <= set(out.iterdir())
    assert [len(prepared) for _, prepared in shown] == [one.frames for one in found]
    return [one.frames for one in found], report


def test_stretches_end_with_their_episode_and_at_their_length(
    tmp_path: Path, policy: MVLAPolicy, observation: Callable[..., Observation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STRETCH", 4)
    write_bag(tmp_path / "bag", [WORDS, *frames(observation, 0, 6), WORDS, *frames(observation, 6, 4)])
    lengths, report = taken(tmp_path / "bag", policy, tmp_path / "all")
    assert lengths == [4, 2, 4] and (report["frames"], report["of"], report["stretches"]) == (10, 10, 3)


def test_of_a_long_bag_whole_stretches_are_left_out_evenly(
    tmp_path: Path, policy: MVLAPolicy, observation: Callable[..., Observation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STRETCH", 2)
    write_bag(tmp_path / "bag", [WORDS, *frames(observation, 0, 32)])
    found, report = bag_stretches(tmp_path / "bag", SETUP, policy, tmp_path / "few", 0.0, 6, lambda *_: None)
    assert (report["frames"], report["of"]) == (6, 32)
    numbers = [one.seed for one in found]  # of 16 stretches
    assert numbers[0] < 4 and numbers[-1] > 7 and min(np.diff(numbers)) >= 4
    assert taken(tmp_path / "bag", policy, tmp_path / "one", most_frames=1)[0] == [2], "one is always taken"


def test_few_frames_are_taken_in_short_stretches_and_the_rest_of_a_bag_is_not_read(
    tmp_path: Path, policy: MVLAPolicy, observation: Callable[..., Observation]
) -> None:
    write_bag(tmp_path / "bag", [WORDS, *frames(observation, 0, 20)])
    assert taken(tmp_path / "bag", policy, tmp_path / "short", most_frames=3)[0] == [3]
    _, report = bag_stretches(tmp_path / "bag", SETUP, policy, tmp_path / "begin", 0.0, 90, lambda *_: None, 7)
    assert (report["frames"], report["of"]) == (7, 7)


def test_rate_is_bounded(tmp_path: Path, policy: MVLAPolicy, observation: Callable[..., Observation]) -> None:
    write_bag(tmp_path / "bag", [WORDS, *frames(observation, 0, 12, hz=20.0)], period_ns=5 * 10**7)
    assert taken(tmp_path / "bag", policy, tmp_path / "slow", most_hz=5.0)[1]["of"] == 3
    assert taken(tmp_path / "bag", policy, tmp_path / "fast")[1]["of"] == 12


def test_a_bag_without_two_frames_in_a_row_is_refused(
    tmp_path: Path, policy: MVLAPolicy, observation: Callable[..., Observation]
) -> None:
    write_bag(tmp_path / "short", [WORDS, *frames(observation, 0, 1)])
    with pytest.raises(ValueError, match="short has no 2 frames in a row .*its episodes are shorter"):
        taken(tmp_path / "short", policy, tmp_path / "a")
    empty = [replace(one, points=one.points[:5]) for one in frames(observation, 0, 3)]
    write_bag(tmp_path / "empty", [WORDS, *empty])
    with pytest.raises(ValueError, match="no 2 frames in a row .*points in the workspace"):
        taken(tmp_path / "empty", policy, tmp_path / "b")


def test_an_instruction_the_policy_does_not_know_is_named(
    tmp_path: Path, policy: MVLAPolicy, observation: Callable[..., Observation]
) -> None:
    write_bag(tmp_path / "bag", ["juggle the faucets", *frames(observation, 0, 3)])
    with pytest.raises(ValueError, match="juggle"):
        taken(tmp_path / "bag", policy, tmp_path / "a")


def test_command_fits_to_bags_without_a_simulator(
    tmp_path: Path, tiny_policy_folder: Path, observation: Callable[..., Observation]
) -> None:
    write_bag(tmp_path / "monday", [WORDS, *frames(observation, 0, 5), WORDS, *frames(observation, 5, 5)])
    write_bag(tmp_path / "tuesday", [WORDS, *frames(observation, 20, 4)])
    for name in ("metaworld", "mujoco"):  # for the processes it starts, too
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the simulator was imported')\n")
    paths = [str(tmp_path), str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    out = tmp_path / "out" / "pruning.json"
    words = ["calibrate", "--policy", str(tiny_policy_folder), "--bag", str(tmp_path / "monday"),
             "--held-out-bag", str(tmp_path / "tuesday"), "--keep", "0.25", "--rounds", "1", "--workers", "1",
             "--extrinsics", *map(str, numbers_of(camera_at().base_from_camera)), "--out", str(out)]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "mvla_pruned_ros.cli.main", *words], capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "10 of 10 frames, in 2 stretches" in " ".join(done.stdout.split())
    content = json.loads(out.read_text())
    assert TriStageConfig.load(out) == TriStageConfig(**content["tri_stage"])
    monday, tuesday = f"{tmp_path / 'monday'}@0.25", f"{tmp_path / 'tuesday'}@0.25"
    assert set(content["fitted"]["defaults"]) == set(content["fitted"]["calibrated"]) == {monday}
    assert content["fitted"]["calibrated"][monday] <= content["fitted"]["defaults"][monday]
    assert set(content["held_out"]["calibrated"]) == {tuesday}
    assert content["fitted"]["bags"][0]["frames"] == 10 and content["held_out"]["bags"][0]["frames"] == 4
    assert "random pruning at the same keep ratio" in content["fitted"]["measure"]
