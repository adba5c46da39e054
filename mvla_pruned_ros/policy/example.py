"""A made-up observation to warm a policy up on."""

from __future__ import annotations

import numpy as np

from ..types import ArmState, CameraModel, Observation, View
from .engine.config import PolicyConfig
from .proprio import FEATURES

POINTS = 4000


def example_observation(inputs: PolicyConfig, instruction: str) -> Observation:
    """Noise in the place of images and points all over the workspace, seen from 1 m above its middle.

    Args:
        inputs: configuration of the policy.
    """
    rng, size = np.random.default_rng(0), inputs.image_size
    points = rng.uniform(inputs.workspace_lower, inputs.workspace_upper, (POINTS, 3)).astype(np.float32)
    pose = np.eye(4)
    pose[:3, 3] = points.mean(0) - [0, 0, 1]
    camera = CameraModel(size, size, size, size, size / 2, size / 2, pose)
    views = tuple(View(name, rng.integers(0, 256, (size, size, 3), np.uint8), camera) for name in inputs.views)
    return Observation(0, views, points, example_state(inputs, points.mean(0)), instruction)


def example_state(inputs: PolicyConfig, position: np.ndarray) -> ArmState:
    """A robot with an open gripper that points down at (3,) a position, of which everything a policy asks is known."""
    down = np.array([1.0, 0.0, 0.0, 0.0])
    joints = np.zeros(inputs.proprio_dim - sum(FEATURES[name][0] for name in inputs.proprio))
    return ArmState(np.asarray(position, np.float32), 1.0, down, joints, np.append(position, down))
