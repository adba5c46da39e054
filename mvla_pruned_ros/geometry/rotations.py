"""Rotations as unit quaternions x y z w, (..., 4). A quaternion and its negative are the same rotation everywhere."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from ..types import ActionRotation

LEAST_COLUMN = 1e-6  # length below which a column of a rotation matrix has no direction


def rotation_of(values: np.ndarray, form: ActionRotation) -> Rotation:
    """Rotations from numbers.

    Args:
        values: (K, 3) or, as ``rotation_6d``, (K, 6). form: see ``ActionForm``.

    Raises:
        ValueError: the columns of ``rotation_6d`` are zero or parallel.
    """
    if form == "rotation_vector":
        return Rotation.from_rotvec(values)
    if form == "euler_xyz":
        return Rotation.from_euler("xyz", values)
    first, second = values[:, :3], values[:, 3:]
    first = first / _lengths(first, values)
    second = second - (first * second).sum(1, keepdims=True) * first
    second = second / _lengths(second, values)
    return Rotation.from_matrix(np.stack([first, second, np.cross(first, second)], 2))


def numbers_of(quaternions: np.ndarray, form: ActionRotation) -> np.ndarray:
    """(K, 3) or, as ``rotation_6d``, (K, 6) numbers of (K, 4) rotations: what ``rotation_of`` takes. NaN stays NaN."""
    known = np.isfinite(quaternions).all(1)
    rotation = Rotation.from_quat(np.where(known[:, None], quaternions, [0, 0, 0, 1]))
    if form == "rotation_vector":
        numbers = rotation.as_rotvec()
    elif form == "euler_xyz":
        numbers = rotation.as_euler("xyz")
    else:
        numbers = rotation.as_matrix()[:, :, :2].swapaxes(1, 2).reshape(-1, 6)
    return np.where(known[:, None], numbers, np.nan)


def _lengths(column: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(K, 1) of (K, 3)."""
    lengths = np.linalg.norm(column, axis=1, keepdims=True)
    if not (lengths > LEAST_COLUMN).all():
        raise ValueError(f"rotation_6d {values[lengths.argmin()]} is no rotation: zero or parallel columns")
    return lengths


def turn_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(..., 3) rotation vectors, rad, about the axes of the base: the short way from one rotation to another."""
    return (Rotation.from_quat(second) * Rotation.from_quat(first).inv()).as_rotvec()


def angle_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(...) angles of the short way, rad, 0 to pi."""
    return np.linalg.norm(turn_between(first, second), axis=-1)


def turned_towards(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """(4,) after a share of the short way from one rotation to another, at an even pace."""
    return (Rotation.from_rotvec(share * turn_between(first, second)) * Rotation.from_quat(first)).as_quat()
