"""Recorded twists in whatever frame, as velocities in the base frame."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..observation.frames import TransformError
from .setup import BagSetup
from .tf_tree import TransformTree

STILL_RAD_S = 1e-3
KEPT = 2000  # orientations of the end effector: two seconds at 1 kHz, some of which are read ahead


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
        self._turns: deque[tuple[int, np.ndarray]] = deque(maxlen=KEPT)

    def remember(self, stamp_ns: int, quaternion: np.ndarray) -> None:
        """The end effector's orientation, x y z w in the base frame; one that is not known (NaN) is passed over."""
        if np.isfinite(quaternion).all():
            self._turns.append((stamp_ns, quaternion))

    def forget(self) -> None:
        """Time went back."""
        self._turns.clear()

    def velocity(self, message: Any, stamped: bool, stamp_ns: int) -> np.ndarray | None:
        """(6,) m/s and rad/s in the base frame; None, and counted, when it cannot be said what a twist is there.

        Args:
            message: geometry_msgs/TwistStamped, or Twist, which is in the base frame.
        """
        twist = message.twist if stamped else message
        linear, angular = ([v.x, v.y, v.z] for v in (twist.linear, twist.angular))
        self.turning += bool(np.abs(angular).max() > STILL_RAD_S)
        frame = message.header.frame_id if stamped else ""
        if not frame or frame == self._setup.base_frame:
            return np.array([*linear, *angular])
        turn = self._turn_of(frame, stamp_ns)
        return None if turn is None else np.concatenate([turn.apply(linear), turn.apply(angular)])

    def _turn_of(self, frame: str, stamp_ns: int) -> Rotation | None:
        """base_from_frame; None, and counted, where it is not known."""
        setup, base, why = self._setup, self._setup.base_frame, f"twist: in frame {frame!r}: "
        if frame == setup.ee_frame and not setup.ee_pose_of_tf:
            near = min(self._turns, key=lambda turn: abs(turn[0] - stamp_ns), default=None)
            if near is not None and abs(near[0] - stamp_ns) <= setup.sync_tolerance_ms * 1e6:
                return Rotation.from_quat(near[1])
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
