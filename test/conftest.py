"""What tests share: a camera, a synthetic scene, a policy with random weights. No ROS and no simulator is needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Tests talk to themselves only. Set before any test module imports rclpy.
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))  # 0 is everybody's; above 101 ports collide
os.environ.setdefault("MUJOCO_GL", "osmesa")
# Threads of torch that spin while they wait make small operations a hundred times slower beside a busy process.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from mvla_pruned_ros.geometry.poses import look_at
from mvla_pruned_ros.sim.metaworld.viewpoint import POSITION, TARGET
from mvla_pruned_ros.types import ArmState, CameraModel, Observation, View

OBJECT = np.array([0.10, 0.65, 0.03])
END_EFFECTOR = np.array([0.0, 0.60, 0.20])


def camera_at(width: int = 192, height: int = 192, focal: float | None = None) -> CameraModel:
    """A camera that looks at the workspace from the side and above, as a tripod in front of the robot would."""
    focal = focal or 1.1 * min(width, height)
    return CameraModel(width, height, focal, focal, width / 2, height / 2, look_at(POSITION, TARGET))


def make_observation(
    seed: int = 0, width: int = 192, height: int = 192, image: np.ndarray | None = None, **changes: Any
) -> Observation:
    """A table top, an object on it, a gripper above it; pixels are noise. ``changes`` replace fields."""
    rng = np.random.default_rng(seed)
    table = np.stack([rng.uniform(-0.4, 0.4, 4000), rng.uniform(0.4, 0.9, 4000), np.full(4000, 0.01)], 1)
    cloud = np.concatenate(
        [table, OBJECT + rng.normal(0, 0.015, (500, 3)), END_EFFECTOR + rng.normal(0, 0.02, (500, 3))]
    )
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    fields: dict[str, Any] = {
        "stamp_ns": 1_000_000_000 + seed,
        "views": (View("image", pixels if image is None else image, camera_at(width, height)),),
        "points": cloud.astype(np.float32),
        "state": ArmState(END_EFFECTOR.astype(np.float32), 1.0),
        "instruction": "push the puck to the goal",
    }
    return Observation(**(fields | changes))


@pytest.fixture
def camera() -> Callable[..., CameraModel]:
    """See ``camera_at``."""
    return camera_at


@pytest.fixture
def observation() -> Callable[..., Observation]:
    """See ``make_observation``: ``observation(seed=3, width=640, height=480, points=...)``."""
    return make_observation


@pytest.fixture(scope="session")
def tiny_policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole policy folder: the shipped architecture and the vocabulary of the tasks, with random weights."""
    import torch

    from mvla_pruned_ros.policy.mvla.checkpoint import save_policy
    from mvla_pruned_ros.policy.mvla.config import MVLAConfig
    from mvla_pruned_ros.policy.mvla.instruction import InstructionTokenizer
    from mvla_pruned_ros.policy.mvla.model import MVLAModel
    from mvla_pruned_ros.policy.mvla.normalization import ActionNormalization
    from mvla_pruned_ros.sim.metaworld.tasks import TASKS

    torch.manual_seed(0)
    config = MVLAConfig()
    tokenizer = InstructionTokenizer.from_instructions(
        [t.instruction for t in TASKS.values()], config.instruction_length
    )
    limits = np.array([0.5, 0.5, 0.5, 1.0], np.float32)
    folder = tmp_path_factory.mktemp("tiny_policy")
    save_policy(folder, MVLAModel(config, tokenizer.size), tokenizer, ActionNormalization(-limits, limits))
    return folder
