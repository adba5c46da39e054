"""Where the end effector is and how it is turned: as a message says it, in whatever frame, or as tf knows it."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..messages.decode import pose_to_position, stamp_ns
from .frames import Frames

NORM_TOLERANCE = 1e-2  # of a quaternion


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
