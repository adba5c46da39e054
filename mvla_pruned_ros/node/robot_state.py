"""Where the robot is, as commands need it: the pose of its end effector, the positions of its joints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from rclpy.node import Node
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState

from ..control.commands import RobotState
from ..messages.decode import ConversionError, stamp_ns
from ..observation.arm_state import end_effector_pose
from ..observation.frames import Frames
from .tf_lookup import TfLookup

TF_PERIOD_S = 0.01  # tf is asked no more often where the end effector is; an answer takes 0.1 ms
FUTURE_NS = 200_000_000  # a transform may be ahead of the clock by as much


class RobotStateReader:
    """Keeps the last that made sense, and for how long it has been known.

    Written by callbacks of one thread, read by any thread: replaced by assignment. What tf tells is asked for by who
    reads, one at a time.
    """

    def __init__(self, node: Node, base_frame: str, joints: tuple[str, ...], max_age_s: Callable[[], float]) -> None:
        """
        Args:
            joints: names of those that are commanded, or told to the policy.
            max_age_s: what was heard longer ago is not known any more.
        """
        self._node, self._base_frame, self._joints, self._max_age_s = node, base_frame, joints, max_age_s
        self._last = RobotState()
        self._frames = Frames(base_frame, "")
        self._tf: TfLookup | None = None
        self._forget_tf()
        self._pose_at: float | None = None  # steady seconds
        self._joints_at: float | None = None
        self._joints_stamp_ns = 0

    def attach(self, frames: Frames, tf: TfLookup | None) -> None:
        """Poses may come in frames that are known, and from tf where ``frames`` names the end effector.

        In callbacks nothing waits for tf: a frame is taken to be where it was last seen.
        """
        self._forget_tf()
        lookup = None if tf is None else (lambda target, source, _: tf.newest(target, source)[0])
        self._tf, self._frames = tf, replace(frames, lookup=lookup)

    def detach(self) -> None:
        """tf is not listened to any more."""
        self._tf, self._frames = None, Frames(self._base_frame, "")
        self._forget_tf()

    def _forget_tf(self) -> None:
        self._of_tf, self._of_tf_stamp_ns = RobotState(), -1
        self._of_tf_at = self._asked_at = -math.inf  # steady seconds: of that stamp's first sight, of the last question

    def take_pose(self, message: Any) -> None:
        """A geometry_msgs/PoseStamped that was not refused by its stamp; one that makes no sense is passed over."""
        try:
            position, orientation = end_effector_pose(message, stamp_ns(message.header), self._frames)
        except ConversionError:  # the observation is refused for the same reason, and says so
            return
        orientation = _continued(orientation, self._last.orientation)
        self._last = replace(self._last, position=position.astype(float), orientation=orientation)
        self._pose_at = time.monotonic()

    def _ask_tf(self, tf: TfLookup) -> None:
        """Take what tf has newest of the end effector, if it has something newer."""
        self._asked_at = now = time.monotonic()
        try:
            pose, stamp = tf.newest(self._base_frame, self._frames.end_effector)
        except ConversionError:
            return
        if stamp == self._of_tf_stamp_ns and stamp:
            return
        turn = _continued(Rotation.from_matrix(pose[:3, :3]).as_quat(), self._of_tf.orientation)
        self._of_tf = RobotState(pose[:3, 3].copy(), turn)
        self._of_tf_stamp_ns, self._of_tf_at = stamp, now

    def _told_by_tf(self, tf: TfLookup) -> RobotState:
        """Position and orientation; neither where they are older, by their stamp or as this node saw them, than may be.

        A transform that holds for all time, which has no stamp, does not become old.
        """
        if time.monotonic() - self._asked_at >= TF_PERIOD_S:
            self._ask_tf(tf)
        age_ns = self._node.get_clock().now().nanoseconds - self._of_tf_stamp_ns
        old = not -FUTURE_NS <= age_ns <= self._max_age_s() * 1e9 if self._of_tf_stamp_ns else False
        return RobotState() if old or not self._fresh(self._of_tf_at) else self._of_tf

    def take_joints(self, message: JointState) -> None:
        """A sensor_msgs/JointState. One with only some of the joints, as of a gripper, is passed over, and a stale one.

        A stamp of zero stands for now.
        """
        positions_of = dict(zip(message.name, message.position))
        positions = np.array([positions_of.get(name, np.nan) for name in self._joints])
        if not np.isfinite(positions).all():
            return
        stamp = stamp_ns(message.header)
        if stamp:
            age_ns = self._node.get_clock().now().nanoseconds - stamp
            if age_ns > self._max_age_s() * 1e9 or stamp < self._joints_stamp_ns:
                return
            self._joints_stamp_ns = stamp
        self._last = replace(self._last, joints=positions)
        self._joints_at = time.monotonic()

    def flush(self) -> None:
        """Time may have gone back: nothing is known until it is heard again."""
        self._last, self._pose_at, self._joints_at, self._joints_stamp_ns = RobotState(), None, None, 0
        self._forget_tf()

    def joints_silent(self) -> bool:
        """Whether joints are commanded and have not been heard of for too long."""
        return bool(self._joints) and not self._fresh(self._joints_at)

    def _fresh(self, heard_at: float | None) -> bool:
        return heard_at is not None and time.monotonic() - heard_at <= self._max_age_s()

    @property
    def current(self) -> RobotState:
        """What a command may start from, or hold: what is older than the limit is not known."""
        last, tf = self._last, self._tf
        if tf is not None and self._frames.end_effector:
            of_tf = self._told_by_tf(tf)
            last = replace(last, position=of_tf.position, orientation=of_tf.orientation)
        elif not self._fresh(self._pose_at):
            last = replace(last, position=None, orientation=None)
        return last if self._fresh(self._joints_at) else replace(last, joints=None)


def _continued(orientation: np.ndarray | None, before: np.ndarray | None) -> np.ndarray | None:
    """The same rotation; a measurement that changes signs must not turn commands."""
    return -orientation if orientation is not None and before is not None and orientation @ before < 0 else orientation
