"""Bags of foreign topic names teach what the simulator teaches directly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bags import write_bag

pytest.importorskip("metaworld", reason="the simulator extra is not installed: pip install .[train]")

from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.geometry.poses import look_at
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.sim.metaworld.viewpoint import POSITION, TARGET
from mvla_pruned_ros.sim.robot import robot_of
from mvla_pruned_ros.training.collect import collect
from mvla_pruned_ros.training.demonstrations import Demonstrations
from mvla_pruned_ros.training.expert import record_episode
from mvla_pruned_ros.training.recipes import Shard

TASK, SEEDS = "button-press-topdown", (1_000_000, 1_000_001)  # the second is pushed about
TOPICS = {
    "image": "/camera/color/image_raw", "depth": "/camera/depth/image_raw", "camera_info": "/camera/color/camera_info",
    "ee_pose": "/arm/pose", "gripper": "/hand/state", "instruction": "/task", "twist": "/servo/twist",
    "gripper_command": "/hand/command",
}  # fmt: skip
REMAP = ["--remap", *(f"{role}:={topic}" for role, topic in TOPICS.items())]


def extrinsics() -> list[str]:
    from scipy.spatial.transform import Rotation

    pose = look_at(POSITION, TARGET)
    numbers = [*pose[:3, 3], *Rotation.from_matrix(pose[:3, :3]).as_quat()]
    return ["--extrinsics", *(repr(float(x)) for x in numbers)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Experts recorded under foreign names, and a training of a few steps on the bag, by the command."""
    root = tmp_path_factory.mktemp("bags")
    record = ["--out", str(root / "bag"), "--expert", "--tasks", TASK, "--episodes", "2", "--seed", str(SEEDS[0])]
    assert main(["record", *record, "--noisy", *REMAP]) == 0
    train = ["--bag", str(root / "bag"), *REMAP, *extrinsics(), "--out", str(root / "out"), "--steps", "2"]
    assert main(["train", *train, "--no-compile", "--precision", "fp32"]) == 0
    return root / "out"


def test_bag_gives_the_same_demonstrations_as_the_simulator(trained: Path) -> None:
    (index,) = (trained / "demonstrations").glob("*.json")
    got = Demonstrations.load([index.parent / name for name in json.loads(index.read_text())["files"]])
    config = MVLAConfig()
    episodes = [record_episode(robot_of(TASK, config.image_size), seed, config, noisy=seed % 2 == 1) for seed in SEEDS]
    assert all(episode is not None for episode in episodes)
    expected = Demonstrations.concatenate([episode for episode in episodes if episode is not None])
    assert len(got) == len(expected) > 50
    np.testing.assert_array_equal(got.image, expected.image)
    np.testing.assert_array_equal(got.proprio, expected.proprio)
    np.testing.assert_array_equal(got.instruction, expected.instruction)
    np.testing.assert_allclose(got.actions, expected.actions, atol=1e-6)
    # A quaternion is not to the last bit the matrix it was made of: now and then another point is the farthest.
    same = np.isclose(got.centres, expected.centres, atol=1e-4).all((1, 2))
    assert same.mean() > 0.9
    np.testing.assert_allclose(got.groups[same], expected.groups[same], atol=2e-3)


def test_expert_is_recorded_through_the_sensors_of_a_shard(tmp_path: Path) -> None:
    shards, config = [Shard(TASK, SEEDS[0], 1, sensors=s) for s in ("", "realsense+calibration1")], MVLAConfig()
    told: list[int] = []
    files = collect(tuple(shards), config, tmp_path, 1, lambda *args: told.append(args[1]))
    assert [file.name for file in files] == [f"{TASK}-{SEEDS[0]}-1{s}.npz" for s in ("", "-realsense+calibration1")]
    plain, real = (Demonstrations.load([file]) for file in files)
    assert told == [1, 1] and len(plain) == len(real)
    np.testing.assert_array_equal(plain.actions, real.actions)  # the expert knows the true state
    np.testing.assert_array_equal(plain.image, real.image)
    apart = np.linalg.norm(plain.centres.mean(1) - real.centres.mean(1), axis=-1)
    assert apart.min() > 0.005, "each frame shows other points"


def test_training_on_it_leaves_a_policy(trained: Path) -> None:
    from mvla_pruned_ros.policy.source import load_policy

    policy = load_policy(trained)
    policy.check_instruction("press the button from the top")
    with pytest.raises(ValueError):
        policy.check_instruction("juggle the faucets")


def test_pruning_is_fitted_to_it_in_the_end(trained: Path) -> None:
    content = json.loads((trained / "pruning.json").read_text())
    (bag,) = content["fitted"]["bags"]
    assert Path(bag["bag"]).name == "bag" and 0 < bag["frames"] <= 80


def test_what_does_not_go_together_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert main(["train", *out, "--workspace", *["0", "0", "0", "1", "1", "1"]]) == 2
    assert "--workspace is for --bag" in capsys.readouterr().err
    assert main(["train", *out, "--bag", str(tmp_path), "--preset", "small-robust"]) == 2
    assert "begins anew" in capsys.readouterr().err.replace("\n", " ")
    assert main(["record", *out, "--episodes", "3"]) == 2
    assert "are for --expert" in capsys.readouterr().err


def test_bag_without_commands_that_reach_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from conftest import make_observation

    write_bag(tmp_path / "bag", ["open the drawer", make_observation(stamp_ns=10**9)], commands=True)
    assert main(["train", "--bag", str(tmp_path / "bag"), "--out", str(tmp_path / "out")]) == 2
    assert "no commands for the whole chunk: 1" in capsys.readouterr().err.replace("\n", " ")
