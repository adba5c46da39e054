"""A made-up observation to warm a policy up on."""

from __future__ import annotations

import numpy as np

from ..types import CameraModel, Observation
from .engine.config import PolicyConfig

POINTS = 4000


def example_observation(inputs: PolicyConfig, instruction: str) -> Observation:
    """Noise in the place of an image and points all over the workspace, seen from 1 m above its middle.

    Args:
        inputs: configuration of the policy.
    """
    rng, size = np.random.default_rng(0), inputs.image_size
    points = rng.uniform(inputs.workspace_lower, inputs.workspace_upper, (POINTS, 3)).astype(np.float32)
    pose = np.eye(4)
    pose[:3, 3] = points.mean(0) - [0, 0, 1]
    camera = CameraModel(size, size, size, size, size / 2, size / 2, pose)
    image = rng.integers(0, 256, (size, size, 3), np.uint8)
    proprio = np.append(points.mean(0), np.ones(inputs.proprio_dim - 3)).astype(np.float32)
    return Observation(0, image, points, camera, proprio, instruction)
