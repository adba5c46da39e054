"""Where the robot is, as commands need it: the pose of its end effector, the positions of its joints."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState

from ..control.commands import RobotState

NORM_TOLERANCE = 1e-2  # of a quaternion


class RobotStateReader:
    """Keeps the last that made sense. Written by callbacks of one thread, read by any thread: replaced by assignment.

    Attributes:
        last: however old. joint_topic: name of the topic of joint states, None when joints are not commanded.
    """

    def __init__(self, node: Node, base_frame: str, joints: tuple[str, ...]) -> None:
        """Args: joints: names of those that are commanded; none: joint states are not listened to."""
        self._base_frame, self._joints = base_frame, joints
        self._joints_at: float | None = None  # steady seconds
        self.last = RobotState()
        self.joint_topic: str | None = None
        if joints:
            qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
            subscription = node.create_subscription(JointState, "~/joint_states", self._take_joints, qos)
            self.joint_topic = subscription.topic_name

    def take_pose(self, message: Any) -> None:
        """A geometry_msgs/PoseStamped. One without sense is refused with its observation; the last good one stays."""
        p, q = message.pose.position, message.pose.orientation
        position = np.array([p.x, p.y, p.z])
        if message.header.frame_id != self._base_frame or not np.isfinite(position).all():
            return
        orientation = np.array([q.x, q.y, q.z, q.w])
        norm = float(np.linalg.norm(orientation))
        usable = abs(norm - 1) <= NORM_TOLERANCE  # also false for NaN
        self.last = replace(self.last, position=position, orientation=orientation / norm if usable else None)

    def _take_joints(self, message: JointState) -> None:
        """Messages with only some of the joints, as those of a gripper, are passed over."""
        where = dict(zip(message.name, message.position))
        positions = np.array([where.get(name, np.nan) for name in self._joints])
        if np.isfinite(positions).all():
            self.last = replace(self.last, joints=positions)
            self._joints_at = time.monotonic()

    def joints_silent(self, limit_s: float) -> bool:
        """Whether joints are commanded and have not been heard of for longer."""
        if self.joint_topic is None:
            return False
        return self._joints_at is None or time.monotonic() - self._joints_at > limit_s

    def current(self, limit_s: float) -> RobotState:
        """What motion may start from: joints that are older than ``limit_s`` are not known."""
        return replace(self.last, joints=None) if self.joints_silent(limit_s) else self.last
