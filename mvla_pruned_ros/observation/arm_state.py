"""Where the arm is at the stamp of an image: as messages say it, in whatever frame, or as tf knows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry.rotations import turned_towards
from ..messages.decode import ConversionError, Readers, gripper_opening, pose_to_position, stamp_ns
from ..types import ArmState
from .frames import Frames
from .streams import AFTER

Read = TypeVar("Read")

NORM_TOLERANCE = 1e-2  # of a quaternion


def arm_state(
    stamp: int, messages: Mapping[str, Any], frames: Frames, readers: Readers, last_command: np.ndarray | None
) -> ArmState:
    """The arm at a stamp; positions and openings lie on the straight way between two messages, rotations on the sphere.

    Args:
        messages, readers, last_command: see ``observation_of``.

    Raises:
        ConversionError, TransformError: see ``end_effector_pose``, ``gripper_opening``.
    """

    def around(stream: str, read: Callable[[Any], Read]) -> tuple[Read, Read, float]:
        """What the messages before and after the stamp say, and where between them it lies, 0..1."""
        first, second = messages[stream], messages.get(stream + AFTER)
        if second is None:
            return read(first), read(first), 0.0
        start, end = stamp_ns(first.header), stamp_ns(second.header)
        return read(first), read(second), (stamp - start) / (end - start)

    if frames.end_effector:
        position, orientation = end_effector_pose(None, stamp, frames)
    else:
        (position, orientation), (p, q), share = around("ee_pose", lambda m: end_effector_pose(m, stamp, frames))
        if share:
            position = (position + share * (p - position)).astype(np.float32)
            orientation = None if orientation is None or q is None else turned_towards(orientation, q, share)
    opening, later, share = around("gripper", lambda m: gripper_opening(m, readers.gripper))
    joints = None
    if readers.joints:
        joints, then, way = around("joint_states", lambda m: joint_positions(m, readers.joints))
        joints = joints + way * (then - joints)
    if last_command is None and orientation is not None:
        last_command = np.append(position, orientation)
    return ArmState(position, opening + share * (later - opening), orientation, joints, last_command)


def joint_positions(message: Any, names: tuple[str, ...]) -> np.ndarray:
    """(N,) positions of these joints in a sensor_msgs/JointState, rad or m, in whatever order they stand there.

    Raises:
        ConversionError: one is missing or not finite.
    """
    positions = dict(zip(message.name, message.position))
    missing = [name for name in names if not np.isfinite(positions.get(name, np.nan))]
    if missing:
        raise ConversionError(
            f"joint states have no position of {', '.join(missing)} (joint_names), only of {', '.join(positions)}"
        )
    return np.array([positions[name] for name in names], float)


def end_effector_pose(message: Any | None, stamp: int, frames: Frames) -> tuple[np.ndarray, np.ndarray | None]:
    """Pose of the end effector in the base frame.

    Args:
        message: geometry_msgs/PoseStamped in the base frame, or in one that ``frames`` knows at its stamp; None: the
            pose is that of ``frames.end_effector`` at a stamp. stamp: of the image, nanoseconds.

    Returns:
        (3,) float32 position in metres; (4,) float64 unit quaternion x y z w, None where the message has none.

    Raises:
        ConversionError: a frame of which nothing is known, or a position that is not finite.
        TransformError: where the frame was then is not known.
    """
    if message is None:
        pose = frames.pose(frames.end_effector, stamp, "end effector")
        return pose[:3, 3].astype(np.float32), Rotation.from_matrix(pose[:3, :3]).as_quat()
    orientation = orientation_of(message.pose.orientation)
    frame = message.header.frame_id
    if not frame or frame == frames.base or not frames.knows(frame):
        return pose_to_position(message, frames.base), orientation
    pose = frames.pose(frame, stamp_ns(message.header), "end-effector pose")
    position = pose[:3, :3] @ pose_to_position(message, frame).astype(float) + pose[:3, 3]
    if orientation is not None:
        orientation = (Rotation.from_matrix(pose[:3, :3]) * Rotation.from_quat(orientation)).as_quat()
    return position.astype(np.float32), orientation


def orientation_of(quaternion: Any) -> np.ndarray | None:
    """(4,) unit quaternion x y z w of a geometry_msgs/Quaternion; None for one that is no rotation."""
    turn = np.array([quaternion.x, quaternion.y, quaternion.z, quaternion.w])
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(turn))
    return turn / norm if abs(norm - 1) <= NORM_TOLERANCE else None  # false for NaN as well
