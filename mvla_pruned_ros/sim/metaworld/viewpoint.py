"""Frames of Meta-World's arm and the pose of its camera. Needs no simulator."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from ...geometry.poses import look_at

BASE_FRAME, CAMERA_FRAME = "base", "camera_color_optical_frame"
# A view in which no task hides its object behind the arm.
POSITION = np.array([0.62, 0.10, 0.62])
TARGET = np.array([-0.02, 0.72, 0.08])
FIELD_OF_VIEW_DEG = 48.0

# Meta-World's mocap weld holds the hand pointing down, within a few degrees, in this orientation (x, y, z, w).
HAND_ORIENTATION = (0.0, 2**-0.5, 0.0, 2**-0.5)


def camera_pose() -> np.ndarray:
    """(4, 4) pose of the camera's optical frame in the base frame."""
    return look_at(POSITION, TARGET)


def extrinsics() -> dict[str, list[float]]:
    """The same as parameters of the policy node: translation in metres, quaternion x y z w."""
    pose = camera_pose()
    return {
        "extrinsics.translation": pose[:3, 3].tolist(),
        "extrinsics.rotation_xyzw": Rotation.from_matrix(pose[:3, :3]).as_quat().tolist(),
    }
