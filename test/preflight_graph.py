"""A live graph for ``mvla preflight``: the synthetic robot's node, and a look at it with the parameters of a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="no ROS here: the live robot needs a graph")

import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped
from preflight_robot import INSTRUCTION, extrinsics, sensor_messages
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64

from mvla_pruned_ros.node.loading import LoadedPolicy
from mvla_pruned_ros.node.preflight_node import PreflightNode
from mvla_pruned_ros.node.preflight_run import look_with
from mvla_pruned_ros.node.ros_messages import ENCODER
from mvla_pruned_ros.policy.runtime import WarmUp
from mvla_pruned_ros.preflight.finding import Finding
from mvla_pruned_ros.preflight.report import Report

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
KINDS = {"image": Image, "depth": Image, "camera_info": CameraInfo, "ee_pose": PoseStamped, "gripper": JointState}
PERIOD_S, LISTEN_S, DISCOVERY_S = 0.02, 0.2, 3.0
FAST = WarmUp(5.0, 4.0, 3.0)  # a busy computer is no fault of the robot

Change = Callable[[str, Any], Any]  # given stream and message, what is sent instead, None for nothing


class Robot(Node):
    """Publishes sensors, and takes commands; counts what it is told."""

    def __init__(
        self, context: Any, change: Change, topics: dict[str, str], listens: type | None, once: tuple[str, ...]
    ) -> None:
        super().__init__("robot", context=context)
        self._change, self._once = change, set(once)
        self._sent: set[str] = set()
        self.out = {}
        for name, kind in KINDS.items():
            if topic := topics.get(name, f"/policy/{name}"):
                self.out[name] = self.create_publisher(kind, topic, LATCHED if name in once else BEST_EFFORT)
        self.told: list[Any] = []
        self.names = {"robot"}  # of the nodes on its side
        if listens:
            self.create_subscription(listens, "/policy/command/twist", self.told.append, 10)
            self.create_subscription(Float64, "/policy/command/gripper", self.told.append, 10)
        self.create_timer(PERIOD_S, self._send)

    def _send(self) -> None:
        for name, message in sensor_messages(ENCODER, time.time_ns()).items():
            changed = self._change(name, message)
            if changed is None or name not in self.out or (name in self._once and name in self._sent):
                continue
            self.out[name].publish(changed)
            self._sent.add(name)


def named(node: Node, robot: Robot) -> bool:
    """Whether the nodes beside this one are known by their names, which come after their topics."""
    return robot.names <= set(node.get_node_names())


def connected(node: Node, robot: Robot) -> bool:
    """Whether two participants know all of one another: the robot's topics, and the subscriptions to them."""
    if not named(node, robot):
        return False
    ends = [node.get_publishers_info_by_topic(publisher.topic_name) for publisher in robot.out.values()]
    return all(ends) and all(p.get_subscription_count() for p in robot.out.values() if p.topic_name in PRIVATE)


PRIVATE = tuple(f"/policy/{name}" for name in KINDS)


class PreflightGraph:
    """Looks at robots; one after the other on the same graph."""

    def __init__(self, policy: LoadedPolicy) -> None:
        self.policy = policy
        self.robot: Robot | None = None

    @contextmanager
    def running(self, *nodes: Node, context: Any) -> Iterator[None]:
        executor = SingleThreadedExecutor(context=context)
        for node in nodes:
            executor.add_node(node)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        try:
            yield
        finally:
            executor.shutdown(timeout_sec=1.0)
            thread.join(1.0)
            for node in nodes:
                node.destroy_node()

    @contextmanager
    def robot_running(self, topics: dict[str, str]) -> Iterator[Robot]:
        """A healthy robot for a look of somebody else's. topics: see ``look``."""
        context = rclpy.Context()
        rclpy.init(context=context)
        robot = Robot(context, lambda name, message: message, topics, TwistStamped, ())
        try:
            with self.running(robot, context=context):
                yield robot
        finally:
            rclpy.shutdown(context=context)

    def look(
        self,
        change: Change = lambda name, message: message,
        *,
        topics: dict[str, str] | None = None,
        listens: type | None = TwistStamped,
        once: tuple[str, ...] = (),
        more: Callable[[Any], Node] | None = None,
        arguments: tuple[str, ...] = (),
        times: WarmUp = FAST,
        policy: LoadedPolicy | None = None,
        listen_s: float = LISTEN_S,
        domain_id: int | None = None,
        ready: Callable[[Node, Robot], bool] = connected,
        **parameters: Any,
    ) -> Report:
        """The report on a robot.

        Args:
            change: of its messages. topics: stream -> name, empty for none. listens: type of the commands that are
                taken, None for no controller. once: streams sent once, latched.
            more: makes another node. arguments: of ROS. times: of the policy. ready: when to begin to listen.
            domain_id: of the robot; None: the same.
            parameters: that differ from healthy ones; None leaves one at its default.
        """
        # Each in a DDS participant of its own, as processes are: one cannot hold two types of a topic.
        contexts = rclpy.Context(), rclpy.Context()
        for context, domain in zip(contexts, (domain_id, None)):
            rclpy.init(context=context, domain_id=domain)
        try:
            self.robot = robot = Robot(contexts[0], change, topics or {}, listens, once)
            others = [more(contexts[0])] if more else []
            robot.names |= {other.get_name() for other in others}
            given = {"policy": "small", "device": "cpu", "instruction": INSTRUCTION, **extrinsics(), **parameters}
            overrides = [Parameter(name, value=value) for name, value in given.items() if value is not None]
            with self.running(robot, *others, context=contexts[0]):
                node = PreflightNode(
                    context=contexts[1], cli_args=["--ros-args", *arguments] if arguments else None,
                    parameter_overrides=overrides,
                )  # fmt: skip
                try:
                    node.start()
                    until = time.monotonic() + DISCOVERY_S
                    while not ready(node, robot) and time.monotonic() < until:
                        time.sleep(0.02)
                    return look_with(node, listen_s, policy or self.policy, times, "")
                finally:
                    node.close()
        finally:
            for context in contexts:
                rclpy.shutdown(context=context)


def of(report: Report, check: str) -> list[Finding]:
    """Findings of one check."""
    return [finding for finding in report.findings if finding.check == check]
