"""From matched messages and parameters to what the policy is shown."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry import depth_to_points
from ..policy.mvla import MVLAPolicy
from ..runtime import PolicyRuntime, WarmUp
from ..types import CameraModel, Observation
from . import conversions as convert
from .inputs import MatchedMessages
from .parameters import Settings


def base_from_camera(settings: Settings) -> np.ndarray:
    """(4, 4) pose of the camera's optical frame in the base frame, from ``extrinsics.*``.

    Raises:
        ValueError: not given (identity would be a guess), or no unit quaternion.
    """
    translation, rotation = settings["extrinsics.translation"], settings["extrinsics.rotation_xyzw"]
    if not np.isfinite([*translation, *rotation]).all():
        raise ValueError(
            "extrinsics.translation and extrinsics.rotation_xyzw are not set: give the pose of the camera's optical "
            "frame in the base frame (metres; quaternion x y z w)"
        )
    norm = float(np.linalg.norm(rotation))
    if abs(norm - 1) > 1e-2:
        raise ValueError(f"extrinsics.rotation_xyzw {list(rotation)} has length {norm:.3f}, a quaternion needs 1")
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(rotation).as_matrix()
    pose[:3, 3] = translation
    return pose


def observe(matched: MatchedMessages, settings: Settings, pose: np.ndarray) -> Observation:
    """Matched messages as an observation. pose: see ``base_from_camera``.

    Raises:
        ConversionError: a message that cannot be used, or in a frame of which nothing is known.
    """
    m = matched.messages
    base, camera_frame = settings["base_frame"], settings["camera_frame"]
    compressed = settings["image_transport"] == "compressed"
    image = (convert.compressed_to_rgb if compressed else convert.image_to_rgb)(m["image"])
    camera = convert.camera_model(m["camera_info"], image.shape[1], image.shape[0], pose)
    if "depth" in m:
        frame = m["depth"].header.frame_id
        if frame != camera_frame:
            raise convert.ConversionError(
                f"depth image is in frame {frame!r}, not {camera_frame!r}: register it to the colour camera or set "
                "camera_frame and extrinsics.*"
            )
        depth = convert.depth_to_metres(m["depth"])
        height, width = depth.shape
        points = depth_to_points(depth, convert.camera_model(m["camera_info"], width, height, pose))
    else:
        points = convert.cloud_to_points(m["points"], base, camera_frame, pose)
    position = convert.pose_to_position(m["ee_pose"], base)
    proprio = np.append(position, np.float32(convert.gripper_opening(m["gripper"])))
    return Observation(matched.stamp_ns, image, points, camera, proprio, settings["instruction"])


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
