"""Commands as messages on the topic of their interface, and what was sent as one JSON line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64, Float64MultiArray, Header, MultiArrayDimension, MultiArrayLayout, String

from ..control.commands import Command
from .conversions import time_message
from .parameters import Settings, joint_names_of

COMMAND_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
REPORT_QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)  # every command counts in a report
CARTESIAN = ("linear.x", "linear.y", "linear.z", "angular.x", "angular.y", "angular.z")


@dataclass(frozen=True)
class Decision:
    """What a tick, the watchdog or a service made of the situation.

    Attributes:
        command: what was sent; None when nothing was, because nobody knows what would be safe to send.
        action: (A,) what the policy asked for, None when no action was due. spliced: it was led into its chunk.
        safe: the command is the safe one. reason: why, or why nothing was sent; empty for an action that was sent.
        chunk_stamp_ns, index: where the action comes from.
    """

    command: Command | None
    action: np.ndarray | None = None
    spliced: bool = False
    safe: bool = False
    reason: str = ""
    chunk_stamp_ns: int | None = None
    index: int | None = None

    def json(self, stamp_ns: int, interface: str) -> str:
        """One line of ``~/command/sent``."""
        command = self.command
        return json.dumps(
            {
                "stamp_ns": stamp_ns,
                "interface": interface,
                "action": None if self.action is None else [round(float(v), 6) for v in self.action],
                "sent": None if command is None else [round(float(v), 6) for v in command.values],
                "gripper": None if command is None else command.gripper,
                "clamped": command is not None and command.clamped,
                "spliced": self.spliced,
                "safe": self.safe,
                "reason": self.reason,
                "chunk_stamp_ns": self.chunk_stamp_ns,
                "action_index": self.index,
            }
        )


class CommandOutput:
    """Publishers of commands.

    Attributes:
        interface: the parameter ``command_interface``.
    """

    def __init__(self, node: Node, settings: Settings) -> None:
        """Raises ValueError when the messages of the interface are not installed."""
        self.interface: str = settings["command_interface"]
        self._frame: str = settings["base_frame"]
        self._joints = joint_names_of(settings)
        kind, topic = _message_kind(self.interface)
        self._publisher = node.create_publisher(kind, f"~/command/{topic}", COMMAND_QOS)
        self._gripper = node.create_publisher(Float64, "~/command/gripper", COMMAND_QOS)
        self._sent = node.create_publisher(String, "~/command/sent", REPORT_QOS)

    @property
    def publishers(self) -> list[Any]:
        """Of the commands; not of the report."""
        return [self._publisher, self._gripper]

    def send(self, command: Command, stamp_ns: int, lookahead_s: float) -> None:
        """Publish it, and beside it the gripper's. lookahead_s: see ``Limits``."""
        header = Header(stamp=time_message(stamp_ns), frame_id=self._frame)
        values = [float(v) for v in command.values]
        make = {"twist": _twist, "pose": _pose}.get(self.interface)
        if make is not None:
            message = make(header, values)
        elif self.interface == "joint_trajectory":
            message = _trajectory(self._joints, values, lookahead_s)
        else:
            label = ", ".join(self._joints or CARTESIAN)
            dimension = MultiArrayDimension(label=label, size=len(values), stride=len(values))
            message = Float64MultiArray(layout=MultiArrayLayout(dim=[dimension]), data=values)
        self._publisher.publish(message)
        if command.gripper is not None:
            self._gripper.publish(Float64(data=command.gripper))

    def report(self, decision: Decision, stamp_ns: int) -> None:
        """Say what was sent, when somebody listens."""
        if self._sent.get_subscription_count():
            self._sent.publish(String(data=decision.json(stamp_ns, self.interface)))


def _message_kind(interface: str) -> tuple[type, str]:
    if interface == "twist":
        return TwistStamped, "twist"
    if interface == "pose":
        return PoseStamped, "pose"
    if interface == "multi_array":
        return Float64MultiArray, "multi_array"
    try:  # needed by this interface only
        from trajectory_msgs.msg import JointTrajectory
    except ImportError as error:
        raise ValueError(
            "command_interface joint_trajectory needs the package trajectory_msgs (pip: ros-trajectory-msgs)"
        ) from error
    return JointTrajectory, "joint_trajectory"


def _twist(header: Header, values: list[float]) -> TwistStamped:
    message = TwistStamped(header=header)
    linear, angular = message.twist.linear, message.twist.angular
    linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = values
    return message


def _pose(header: Header, values: list[float]) -> PoseStamped:
    message = PoseStamped(header=header)
    p, q = message.pose.position, message.pose.orientation
    p.x, p.y, p.z, q.x, q.y, q.z, q.w = values
    return message


def _trajectory(joints: tuple[str, ...], positions: list[float], duration_s: float) -> Any:
    """One point, to be reached after ``duration_s``, without an end velocity: if nothing follows, the arm stops there.

    The stamp is zero, which means at once: one of another computer's clock may lie in the past and would be refused.
    """
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    nanoseconds = round(duration_s * 1e9)
    time_from_start = Duration(sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000)
    point = JointTrajectoryPoint(positions=positions, time_from_start=time_from_start)
    return JointTrajectory(joint_names=list(joints), points=[point])
