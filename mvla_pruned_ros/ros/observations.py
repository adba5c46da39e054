"""Parameters of the node to what turns messages into observations, and made-up observations to warm up on."""

from __future__ import annotations

import numpy as np

from ..messages import Frames, pose_of
from ..policy.mvla import MVLAPolicy
from ..runtime import PolicyRuntime, WarmUp
from ..types import CameraModel, Observation
from .parameters import Settings


def frames_of(settings: Settings) -> Frames:
    """Frame names, and the pose of the camera from ``extrinsics.*``; raises ValueError as ``pose_of`` does."""
    pose = pose_of(settings["extrinsics.translation"], settings["extrinsics.rotation_xyzw"])
    return Frames(settings["base_frame"], settings["camera_frame"], pose)


def warm_up(runtime: PolicyRuntime, settings: Settings) -> WarmUp:
    """Run the policy on made-up input, so that no real call is slow, and see whether pruning pays if that is asked."""
    policy = runtime.policy
    assert isinstance(policy, MVLAPolicy)
    config, rng = policy.config, np.random.default_rng(0)
    size = config.image_size
    points = rng.uniform(config.workspace_lower, config.workspace_upper, (4000, 3)).astype(np.float32)
    pose = np.eye(4)
    pose[:3, 3] = points.mean(0) - [0, 0, 1]
    camera = CameraModel(size, size, size, size, size / 2, size / 2, pose)
    image = rng.integers(0, 256, (size, size, 3), np.uint8)
    proprio = np.append(points.mean(0), np.ones(config.proprio_dim - 3)).astype(np.float32)
    instruction = settings["instruction"] or policy.tokenizer.words[0]
    decide = settings["prune"] == "auto"
    result = runtime.warm_up(Observation(0, image, points, camera, proprio, instruction), rounds=15 if decide else 1)
    runtime.prune = result.pruning_pays or not decide
    return result
