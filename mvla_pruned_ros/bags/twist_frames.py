"""Recorded twists in whatever frame, as velocities in the base frame."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..observation.frames import TransformError
from .setup import BagSetup
from .tf_tree import TransformTree

STILL_RAD_S = 1e-3
KEPT = 2000  # orientations of the end effector, at least: two seconds at 1 kHz, some of which are read ahead


class TwistFrames:
    """Turns twists into the base frame: by the measured orientation of the end effector, or by tf.

    Attributes:
        tree: of the bag, None where tf is not read. turning: how many twists had an angular velocity.
    """

    def __init__(self, setup: BagSetup, drops: Counter[str]) -> None:
        """Args: drops: counts here what could not be turned, with the reason."""
        self._setup, self._drops = setup, drops
        self.tree: TransformTree | None = None
        self.turning = 0
        self._stamps: list[int] = []  # in order
        self._turns: list[np.ndarray] = []

    def remember(self, stamp_ns: int, quaternion: np.ndarray) -> None:
        """The end effector's orientation, x y z w in the base frame.

        One that is not known (NaN), or whose stamp lies behind the last, is passed over.
        """
        if np.isfinite(quaternion).all() and (not self._stamps or stamp_ns > self._stamps[-1]):
            self._stamps.append(stamp_ns)
            self._turns.append(quaternion)
        if len(self._stamps) > 2 * KEPT:
            del self._stamps[:KEPT], self._turns[:KEPT]

    def forget(self) -> None:
        """Time went back."""
        self._stamps.clear()
        self._turns.clear()

    def _apart(self, i: int, stamp_ns: int) -> int:
        return abs(self._stamps[i] - stamp_ns)

    def velocity(self, message: Any, stamped: bool, stamp_ns: int) -> np.ndarray | None:
        """(6,) m/s and rad/s in the base frame; None, and counted, when it cannot be said what a twist is there.

        Args:
            message: geometry_msgs/TwistStamped, or Twist, which is in the base frame.
        """
        twist = message.twist if stamped else message
        both = np.array([[v.x, v.y, v.z] for v in (twist.linear, twist.angular)])
        frame = message.header.frame_id if stamped else ""
        if frame and frame != self._setup.base_frame:
            turn = self._turn_of(frame, stamp_ns)
            if turn is None:
                return None
            both = turn.apply(both)
        self.turning += bool(np.abs(both[1]).max() > STILL_RAD_S)
        return both.ravel()

    def _turn_of(self, frame: str, stamp_ns: int) -> Rotation | None:
        """base_from_frame; None, and counted, where it is not known."""
        setup, base, why = self._setup, self._setup.base_frame, f"twist: in frame {frame!r}: "
        if frame == setup.ee_frame and not setup.ee_pose_of_tf:
            after = bisect_left(self._stamps, stamp_ns)
            beside = range(len(self._stamps))[max(0, after - 1) : after + 1]
            near = min(beside, key=lambda i: self._apart(i, stamp_ns), default=None)
            if near is not None and self._apart(near, stamp_ns) <= setup.sync_tolerance_ms * 1e6:
                return Rotation.from_quat(self._turns[near])
            self._drops[f"{why}no orientation of ee_pose within sync_tolerance_ms of its stamp"] += 1
        elif self.tree is not None:
            try:
                return Rotation.from_matrix(self.tree.lookup(base, frame, stamp_ns)[:3, :3])
            except TransformError:
                self._drops[f"{why}no transform to {base!r} at its stamp"] += 1
        else:
            self._drops[
                f"{why}publish it in {base!r}, set base_frame, name it in ee_frame if it is that of ee_pose, or read "
                "tf (extrinsics_source: tf)"
            ] += 1
        return None
