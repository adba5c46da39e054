"""A bag with two views and a hand that turns teaches a policy that needs both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bags import numbers_of, write_bag
from conftest import camera_at, make_observation
from scipy.spatial.transform import Rotation

from mvla_pruned_ros.bags.labels import labelled
from mvla_pruned_ros.bags.observations import BagFrames
from mvla_pruned_ros.bags.reader import Bag
from mvla_pruned_ros.bags.setup import BagSetup
from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.control.action_spaces import ActionForm
from mvla_pruned_ros.policy.runtime import PolicyRuntime
from mvla_pruned_ros.policy.source import load_policy
from mvla_pruned_ros.pruning.baselines.simple import NoPruning
from mvla_pruned_ros.types import ArmState, Observation, View

SIZE, STEP_NS, CHUNK, STEP_S = 48, 50_000_000, 4, 0.0125
WORDS = "pick up the alphabet soup and then place it in the basket"
WRIST = camera_at(SIZE, SIZE)
FRAMES = {"sensor_frames": ["image_1"], "sensor_extrinsics": numbers_of(WRIST.base_from_camera)}


def scenes(count: int, seed: int) -> tuple[list[Observation], np.ndarray]:
    """Observations whose *second* view shows a bright square, and (count, 3) the turn that this asks for, rad/s."""
    rng = np.random.default_rng(seed)
    observations, turns = [], []
    for i in range(count):
        plain = make_observation(0, SIZE, SIZE)  # nothing else by which frames could be learned by heart
        row, column = 16 * rng.integers(0, 3, 2)
        wrist = np.full((SIZE, SIZE, 3), 30, np.uint8)
        wrist[row : row + 16, column : column + 16] = 230
        turned = Rotation.from_euler("xyz", [np.pi, 0, rng.uniform(-0.1, 0.1)]).as_quat()
        observations.append(
            replace(
                plain,
                stamp_ns=10**9 + i * STEP_NS,
                views=(*plain.views, View("image_1", wrist, WRIST)),
                points=plain.points[::10],
                state=ArmState(plain.state.position, 1.0, turned),
                instruction=WORDS,
            )
        )
        turns.append([0.0, (row / (SIZE - 16) - 0.5), (column / (SIZE - 16) - 0.5)])
    return observations, np.array(turns)


def bag(folder: Path, count: int, seed: int) -> Path:
    observations, turns = scenes(count, seed)

    def turning(i: int, role: str, message: Any) -> Any:
        if role == "twist":
            message.twist.angular.y, message.twist.angular.z = map(float, turns[i - 1][1:])
        return message

    write_bag(folder, [WORDS, *observations], commands=True, change=turning)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole_arm")
    policy = {
        "views": ["image", "image_1"], "proprio": ["ee_position", "ee_rotation_6d", "gripper"], "action_dim": 7,
        "image_size": SIZE, "num_groups": 4, "group_size": 4, "width": 64, "depth": 2, "evidence_layers": [1],
        "chunk_size": CHUNK,
    }  # fmt: skip
    (root / "policy.yaml").write_text(json.dumps(policy))
    pose = camera_at(SIZE, SIZE).base_from_camera
    extrinsics = {"translation": numbers_of(pose)[:3], "rotation_xyzw": numbers_of(pose)[3:]}
    (root / "bag.yaml").write_text(json.dumps({"extra_images": ["image_1"], "extrinsics": extrinsics, **FRAMES}))
    bag(root / "bag", 300, 0)
    words = ["--bag", str(root / "bag"), "--bag-config", str(root / "bag.yaml"), "--out", str(root / "out")]
    words += [
        "--policy-config",
        str(root / "policy.yaml"),
        "--steps",
        "400",
        "--no-calibrate",
        "--no-compile",
        "--precision",
        "fp32",
    ]
    assert main(["train", *words]) == 0
    return root / "out"


def test_it_learns_to_turn_from_the_second_view(trained: Path, tmp_path: Path) -> None:
    policy = load_policy(trained)
    assert (policy.views, policy.action_dim) == (("image", "image_1"), 7)
    setup = BagSetup(base_from_camera=camera_at(SIZE, SIZE).base_from_camera, extra_images=["image_1"], **FRAMES)
    with Bag(bag(tmp_path / "bag", 60, 5000)) as recorded:
        events = BagFrames(recorded, setup, signals=True)
        pairs = list(labelled(events, events.roles, ActionForm(), 7, CHUNK, STEP_S))
    seen = [frame.observation for frame, label in pairs if label is not None]
    labels = np.stack([label for _, label in pairs if label is not None])
    assert len(seen) >= 58
    other = np.random.default_rng(0).permutation(len(seen))
    mixed = [replace(one, views=(one.views[0], seen[i].views[1])) for one, i in zip(seen, other)]
    runtime = PolicyRuntime(policy, NoPruning())

    def error(observations: list[Observation]) -> float:
        """Mean of the turn's, in multiples of that of the mean action."""
        given = np.stack([runtime.infer(one).chunk.actions for one in observations])
        turn = slice(4, 6)
        mean = np.abs(labels[..., turn] - labels[..., turn].mean((0, 1))).mean()
        return float(np.abs(given - labels)[..., turn].mean() / mean)

    right, shuffled = error(seen), error(mixed)
    print(f"error of the turn {right:.3f} of that of the mean action, {shuffled:.3f} with the second views shuffled")
    assert right < 1 / 3 and shuffled > 0.8


def test_long_instructions_are_learned_and_longer_ones_refused(trained: Path, tmp_path: Path) -> None:
    policy = load_policy(trained)
    policy.check_instruction(WORDS)
    assert policy.config.instruction_length == 12  # type: ignore[attr-defined]
