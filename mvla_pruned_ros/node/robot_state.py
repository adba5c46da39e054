"""Where the robot is, as commands need it: the pose of its end effector, the positions of its joints."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState

from ..control.commands import RobotState
from ..messages.decode import ConversionError, pose_to_position, stamp_ns

NORM_TOLERANCE = 1e-2  # of a quaternion


class RobotStateReader:
    """Keeps the last that made sense, and for how long it has been known.

    Written by callbacks of one thread, read by any thread: replaced by assignment.

    Attributes:
        joint_topic: name of the topic of joint states, None when joints are not commanded.
    """

    def __init__(self, node: Node, base_frame: str, joints: tuple[str, ...], max_age_s: Callable[[], float]) -> None:
        """
        Args:
            joints: names of those that are commanded; none: joint states are not listened to.
            max_age_s: what was heard longer ago is not known any more.
        """
        self._node, self._base_frame, self._joints, self._max_age_s = node, base_frame, joints, max_age_s
        self._last = RobotState()
        self._pose_at: float | None = None  # steady seconds
        self._joints_at: float | None = None
        self._joints_stamp_ns = 0
        self.joint_topic: str | None = None
        if joints:
            qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
            subscription = node.create_subscription(JointState, "~/joint_states", self._take_joints, qos)
            self.joint_topic = subscription.topic_name

    def take_pose(self, message: Any) -> None:
        """A geometry_msgs/PoseStamped that was not refused by its stamp; one that makes no sense is passed over."""
        try:
            position = pose_to_position(message, self._base_frame)
        except ConversionError:  # the observation is refused for the same reason, and says so
            return
        q = message.pose.orientation
        turn = np.array([q.x, q.y, q.z, q.w])
        norm = float(np.linalg.norm(turn))
        orientation = turn / norm if abs(norm - 1) <= NORM_TOLERANCE else None  # false for NaN as well
        before = self._last.orientation
        if orientation is not None and before is not None and orientation @ before < 0:
            orientation = -orientation  # the same rotation; a measurement that changes signs must not turn commands
        self._last = replace(self._last, position=position.astype(float), orientation=orientation)
        self._pose_at = time.monotonic()

    def _take_joints(self, message: JointState) -> None:
        """Messages with only some of the joints, as those of a gripper, are passed over, and so are stale ones.

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

    def joints_silent(self) -> bool:
        """Whether joints are commanded and have not been heard of for too long."""
        return self.joint_topic is not None and not self._fresh(self._joints_at)

    def _fresh(self, heard_at: float | None) -> bool:
        return heard_at is not None and time.monotonic() - heard_at <= self._max_age_s()

    @property
    def current(self) -> RobotState:
        """What a command may start from, or hold: what is older than the limit is not known."""
        last = self._last
        if not self._fresh(self._pose_at):
            last = replace(last, position=None, orientation=None)
        return last if self._fresh(self._joints_at) else replace(last, joints=None)
