"""Parameters of the node to what turns messages into observations, and made-up observations to warm up on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..policy.mvla import MVLAPolicy
from ..runtime import PolicyRuntime, WarmUp
from ..sensors import Frames, Lookup, pose_of, sensor_poses
from ..types import CameraModel, Observation
from .parameters import Settings


def frames_of(settings: Settings, tf_lookup: Callable[[], Lookup]) -> Frames:
    """Frame names, and the poses of the sensors: of ``extrinsics.*`` and ``sensor_extrinsics``, or asked of tf.

    Args:
        tf_lookup: begins to listen to tf; called only if that is asked for.

    Raises:
        ValueError: poses are missing, are none, or are given although tf is asked for; or tf2_ros is not installed.
    """
    base, camera = settings["base_frame"], settings["camera_frame"]
    extrinsics = settings["extrinsics.translation"], settings["extrinsics.rotation_xyzw"]
    others = settings["sensor_frames"], settings["sensor_extrinsics"]
    if settings["extrinsics_source"] == "tf":
        if np.isfinite([*extrinsics[0], *extrinsics[1], *others[1]]).any():
            raise ValueError(
                "extrinsics_source is tf: leave extrinsics.* and sensor_extrinsics out, or set it to parameters"
            )
        return Frames(base, camera, {}, tf_lookup())
    poses = sensor_poses(*others)
    if not settings["depth_registered"] and settings["cloud_source"] == "depth" and not poses:
        raise ValueError("depth_registered is false: name the frame of ~/depth in sensor_frames and give its pose in "
                         "sensor_extrinsics, or set extrinsics_source to tf")  # fmt: skip
    return Frames(base, camera, poses | {camera: pose_of(*extrinsics)})


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
