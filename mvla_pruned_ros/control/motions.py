"""Actions as motions: what is asked of the end effector or of the joints, in whatever form the policy gives it.

A motion is, the gripper left out, a velocity in the frame of the actions, (3,) in m/s or (6,) with rad/s behind it; a
pose of the end effector in the base frame, (7,), position in metres and unit quaternion x y z w; or (N,), one value for
each joint. It has parts that cannot be measured by one another, as metres and radians cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry.rotations import angle_between, rotation_of, turned_towards
from ..types import ActionChunk
from .action_spaces import ActionForm


def motions_of(chunk: ActionChunk, form: ActionForm) -> np.ndarray:
    """(K, N) motions of a chunk.

    Raises:
        ValueError: rotations that are none, or steps of the position and the chunk does not say from where.
    """
    values = chunk.actions[:, :-1].astype(float)
    if form.of_poses:
        position = values[:, :3]
        if form.position == "step":
            if chunk.origin is None:
                raise ValueError("actions are steps of the position, but the chunk has no origin that they begin at")
            position = chunk.origin + np.cumsum(position, 0)
        return np.hstack([position, rotation_of(values[:, 3:], form.rotation).as_quat()])
    if form.space == "cartesian_delta":
        if values.shape[1] > 3:
            values = np.hstack([values[:, :3], rotation_of(values[:, 3:], form.rotation).as_rotvec()])
        return values / chunk.step_s
    return values


def path_of(chunk: ActionChunk, form: ActionForm, orientation: np.ndarray | None = None) -> np.ndarray | None:
    """(K + 1, 3) positions, metres, base frame, that a chunk leads the end effector through, the first where it is.

    None where that cannot be told: of actions that move joints, and of a chunk without origin. For actions along the
    axes of the tool the path is about right only: turns on the way are left out.

    Args:
        orientation: (4,) quaternion x y z w of the end effector, for actions along the axes of the tool.
    """
    if form.of_joints or chunk.origin is None or (form.frame == "tool" and orientation is None):
        return None
    motions = motions_of(chunk, form)[:, :3]
    if form.of_poses:
        return np.vstack([chunk.origin, motions])
    steps = motions * chunk.step_s
    if form.frame == "tool":
        steps = Rotation.from_quat(orientation).apply(steps)
    return np.asarray(chunk.origin + np.vstack([np.zeros(3), np.cumsum(steps, 0)]))


@dataclass(frozen=True)
class Part:
    """Values of a motion that are measured together. columns: which. turns: they are a quaternion."""

    columns: slice
    turns: bool = False

    def way(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(...) how far it is from one motion to another, both (..., N): Euclidean, or rad."""
        first, second = first[..., self.columns], second[..., self.columns]
        if self.turns:
            return angle_between(first, second)
        way = second - first
        return np.asarray(np.linalg.norm(way, axis=-1 if way.ndim > 1 else None))

    def between(self, first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
        """Its values after a share of the way from one motion to another, both (N,)."""
        first, second = first[self.columns], second[self.columns]
        return turned_towards(first, second, share) if self.turns else first + (second - first) * share


WHOLE = Part(slice(None))
LINEAR = Part(slice(0, 3))
POSE = (LINEAR, Part(slice(3, 7), turns=True))


def parts_of(form: ActionForm, width: int) -> tuple[Part, ...]:
    """Parts of motions of ``width`` values."""
    if form.of_joints or width <= 3:
        return (WHOLE,)
    return POSE if form.of_poses else (LINEAR, Part(slice(3, 6)))


class Way:
    """Poses that are reached at the ends of their steps, and all between them: straight, and on the sphere."""

    def __init__(self, poses: np.ndarray, step_s: float, start: np.ndarray, start_s: float) -> None:
        """
        Args:
            poses: (K, 7). step_s: between them; the first is reached one step after time 0.
            start: (7,) where the end effector is led to before that. start_s: when, seconds.
        """
        ends = step_s * np.arange(len(poses) + 1)
        if start_s < step_s:  # else the start lies behind, and the chunk is joined between its own poses
            ends[0] = start_s
        self._ends, self._poses = ends, np.vstack([start, poses])

    def at(self, time_s: float) -> np.ndarray:
        """(7,) at a time; the last pose after its step."""
        k = int(np.clip(np.searchsorted(self._ends, time_s), 1, len(self._ends) - 1))
        before, after = self._ends[k - 1], self._ends[k]
        share = float(np.clip((time_s - before) / (after - before), 0, 1))
        first, second = self._poses[k - 1], self._poses[k]
        return np.concatenate([part.between(first, second, share) for part in POSE])
