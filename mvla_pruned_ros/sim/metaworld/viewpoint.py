"""Frames of Meta-World's arm and the pose of its camera. Needs no simulator."""

from __future__ import annotations

import numpy as np

from ...geometry.poses import look_at
from ..wiring import CameraMount, Wiring

CAMERA_FRAME = "camera_color_optical_frame"
# A view in which no task hides its object behind the arm.
POSITION = np.array([0.62, 0.10, 0.62])
TARGET = np.array([-0.02, 0.72, 0.08])
FIELD_OF_VIEW_DEG = 48.0

# Meta-World's mocap weld holds the hand pointing down, within a few degrees, in this orientation (x, y, z, w).
HAND_ORIENTATION = (0.0, 2**-0.5, 0.0, 2**-0.5)


def camera_pose() -> np.ndarray:
    """(4, 4) pose of the camera's optical frame in the base frame."""
    return look_at(POSITION, TARGET)


WIRING = Wiring("push", (CameraMount("image", CAMERA_FRAME, camera_pose()),))
