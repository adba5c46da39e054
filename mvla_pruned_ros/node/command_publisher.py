"""Commands as messages on the topic of their interface, and what was sent as one JSON line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64, String

from ..control.commands import Command
from .parameters import Settings, joint_names_of
from .ros_messages import ENCODER, message_class

COMMAND_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
REPORT_QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)  # every command counts in a report
MESSAGES = {  # on the topic of the interface's name
    "twist": "geometry_msgs/msg/TwistStamped",
    "pose": "geometry_msgs/msg/PoseStamped",
    "joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
    "multi_array": "std_msgs/msg/Float64MultiArray",
}
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
        self._gripper_range = settings.gripper_commands
        self._publisher = node.create_publisher(
            _message_class(self.interface), f"~/command/{self.interface}", COMMAND_QOS
        )
        self._gripper = node.create_publisher(Float64, "~/command/gripper", COMMAND_QOS)
        self._sent = node.create_publisher(String, "~/command/sent", REPORT_QOS)

    @property
    def publishers(self) -> list[Any]:
        """Of the commands; not of the report."""
        return [self._publisher, self._gripper]

    def send(self, command: Command, stamp_ns: int, lookahead_s: float) -> None:
        """Publish it, and beside it the gripper's. lookahead_s: see ``Limits``."""
        values, frame = command.values, self._frame
        if self.interface == "twist":
            message = ENCODER.twist(values, stamp_ns, frame)
        elif self.interface == "pose":
            message = ENCODER.pose(values[:3], stamp_ns, frame, values[3:])
        elif self.interface == "joint_trajectory":
            message = ENCODER.trajectory(self._joints, values, lookahead_s)
        else:
            message = ENCODER.numbers(", ".join(self._joints or CARTESIAN), values)
        self._publisher.publish(message)
        if command.gripper is not None:
            self._gripper.publish(ENCODER.number(self._gripper_range.sent(command.gripper)))

    def report(self, decision: Decision, stamp_ns: int) -> None:
        """Say what was sent, when somebody listens."""
        if self._sent.get_subscription_count():
            self._sent.publish(ENCODER.text(decision.json(stamp_ns, self.interface)))


def _message_class(interface: str) -> Any:
    try:
        return message_class(MESSAGES[interface])
    except ImportError as error:  # only the trajectory's package is not among those that the node always needs
        package = MESSAGES[interface].split("/")[0]
        raise ValueError(
            f"command_interface {interface} needs the package {package} (pip: ros-{package.replace('_', '-')})"
        ) from error
