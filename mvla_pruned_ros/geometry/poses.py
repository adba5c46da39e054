"""Poses as (4, 4) matrices."""

from __future__ import annotations

import numpy as np


def look_at(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(4, 4) base_from_camera of an upright optical frame at ``position``, (3,) metres, that looks at ``target``."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = position
    return pose
