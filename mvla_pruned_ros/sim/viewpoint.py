"""Where the simulated camera stands. Whoever reads its pictures needs this and no simulator."""

from __future__ import annotations

import numpy as np

# A view in which no task hides its object behind the arm.
POSITION = np.array([0.62, 0.10, 0.62])
TARGET = np.array([-0.02, 0.72, 0.08])
FIELD_OF_VIEW_DEG = 48.0


def look_at(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(4, 4) base_from_camera of an upright optical frame at ``position`` that looks at ``target``."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = position
    return pose
