"""The transforms of a bag: where a frame was at a stamp. In the live node tf2 answers the same question."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from ..observation.frames import TransformError


@dataclass
class _Edge:
    """Poses of one frame in its parent, by stamp; ``static`` ones hold for all time. second: parent that came later."""

    parent: str
    static: bool
    second: str = ""
    stamps_ns: array[int] = field(default_factory=lambda: array("q"))
    poses: array[float] = field(default_factory=lambda: array("d"))  # seven a stamp: x y z, quaternion x y z w
    _sorted: tuple[np.ndarray, np.ndarray] = field(default_factory=lambda: (np.zeros(0), np.zeros((0, 7))))

    def in_order(self) -> tuple[np.ndarray, np.ndarray]:
        """(N,) stamps, ascending, and (N, 7) poses."""
        if len(self._sorted[0]) != len(self.stamps_ns):
            stamps = np.array(self.stamps_ns)
            order = np.argsort(stamps, kind="stable")
            self._sorted = stamps[order], np.array(self.poses).reshape(-1, 7)[order]
        return self._sorted

    def at(self, stamp_ns: int, child: str) -> np.ndarray:
        """(4, 4) parent_from_child, between two stamps on the straight line and the shortest turn, as tf2 has it."""
        stamps, poses = self.in_order()
        if self.static:
            return _matrix(poses[-1, :3], Rotation.from_quat(poses[-1, 3:]))
        after = int(np.searchsorted(stamps, stamp_ns))
        if after < len(stamps) and stamps[after] == stamp_ns:
            return _matrix(poses[after, :3], Rotation.from_quat(poses[after, 3:]))
        if after in (0, len(stamps)):
            raise TransformError(
                f"{child!r} in {self.parent!r} is known from {stamps[0] / 1e9:.3f} s to {stamps[-1] / 1e9:.3f} s, "
                f"not at {stamp_ns / 1e9:.3f} s"
            )
        before = after - 1
        share = (stamp_ns - stamps[before]) / (stamps[after] - stamps[before])
        turn = Slerp([0, 1], Rotation.from_quat(poses[[before, after], 3:]))(share)
        return _matrix((1 - share) * poses[before, :3] + share * poses[after, :3], turn)


def _matrix(translation: np.ndarray, rotation: Rotation) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation.as_matrix(), translation
    return pose


class TransformTree:
    """Filled from tf2_msgs/TFMessage of a whole bag, then asked. Outside the stamps of a frame nothing is made up."""

    def __init__(self) -> None:
        self._edges: dict[str, _Edge] = {}

    def add(self, transforms: Iterable[Any], static: bool) -> None:
        """geometry_msgs/TransformStamped of ``/tf`` or ``/tf_static``; those that are not finite are left out."""
        for one in transforms:
            t, q = one.transform.translation, one.transform.rotation
            numbers = [t.x, t.y, t.z, q.x, q.y, q.z, q.w]
            if not np.isfinite(numbers).all() or not any(numbers[3:]):
                continue
            parent, child = one.header.frame_id, one.child_frame_id
            edge = self._edges.setdefault(child, _Edge(parent, static))
            if edge.parent != parent:
                edge.second = parent
                continue
            edge.stamps_ns.append(one.header.stamp.sec * 1_000_000_000 + one.header.stamp.nanosec)
            edge.poses.extend(numbers)

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """(4, 4) target_from_source.

        Raises:
            TransformError: a frame is missing, the two are not connected, or not at that time.
            ValueError: a frame between them has two parents: which of them holds when is not followed.
        """
        up = self._to_root(source)
        down = self._to_root(target)
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            known = ", ".join(sorted({*self._edges, *(e.parent for e in self._edges.values())})) or "none"
            raise TransformError(f"no transform leads from {source!r} to {target!r}; frames in the bag: {known}")
        common_from_source = self._chain(up[: up.index(common)], stamp_ns)
        common_from_target = self._chain(down[: down.index(common)], stamp_ns)
        return np.linalg.inv(common_from_target) @ common_from_source

    def parents(self) -> dict[str, str]:
        """Frame -> its parent."""
        return {frame: edge.parent for frame, edge in self._edges.items()}

    def moving(self, target: str, source: str) -> set[str]:
        """Frames between two that move: those whose transforms tell where one is in the other."""
        between = set(self._to_root(source)) ^ set(self._to_root(target))
        return {frame for frame in between if frame in self._edges and not self._edges[frame].static}

    def _to_root(self, frame: str) -> list[str]:
        path = [frame]
        while path[-1] in self._edges and self._edges[path[-1]].parent not in path:
            path.append(self._edges[path[-1]].parent)
        return path

    def _chain(self, frames: list[str], stamp_ns: int) -> np.ndarray:
        """(4, 4) of one frame after the other, each in its parent."""
        pose = np.eye(4)
        for frame in frames:
            edge = self._edges[frame]
            if edge.second:
                raise ValueError(f"tf: frame {frame!r} has two parents, {edge.parent!r} and {edge.second!r}")
            pose = edge.at(stamp_ns, frame) @ pose
        return pose
