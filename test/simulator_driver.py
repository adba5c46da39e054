"""A node that drives the simulator node by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger

from mvla_pruned_ros.node.ros_messages import ENCODER
from mvla_pruned_ros.rigs.graph import Graph
from mvla_pruned_ros.sim.node import LATCHED

MODULE = "mvla_pruned_ros.sim.node"


class Driver:
    """A node that drives the simulator by hand."""

    def __init__(self, graph: Graph) -> None:
        self.graph, node = graph, graph.node
        self.status: dict[str, Any] = {}
        self.clock_ns: list[int] = []
        self.poses: list[np.ndarray] = []
        self.images: list[Image] = []
        self.subscribe(String, "/simulator/status", lambda m: self.status.update(json.loads(m.data)), LATCHED)
        self.subscribe(Clock, "/clock", lambda m: self.clock_ns.append(m.clock.sec * 10**9 + m.clock.nanosec), 50)
        self.twist = node.create_publisher(TwistStamped, "/simulator/command/twist", 1)
        self.gripper = node.create_publisher(Float64, "/simulator/command/gripper", 1)
        self._reset = node.create_client(Trigger, "/simulator/reset")
        self._parameters = node.create_client(SetParameters, "/simulator/set_parameters")
        sensor = sensor_qos()
        self.subscribe(PoseStamped, "/simulator/ee_pose", self._take_pose, sensor)
        self.subscribe(Image, "/simulator/image", self.images.append, sensor)

    def subscribe(self, kind: type, topic: str, callback: Callable[[Any], Any], qos: Any) -> Any:
        return self.graph.node.create_subscription(kind, topic, lambda m: (callback(m), None)[1], qos)

    def _take_pose(self, message: PoseStamped) -> None:
        p = message.pose.position
        self.poses.append(np.array([p.x, p.y, p.z]))

    def wait(self, done: Callable[[], Any], seconds: float = 30.0) -> None:
        until = time.monotonic() + seconds
        while not done():
            self.graph.spin_once(0.02)
            assert time.monotonic() < until, f"not within {seconds} s; status {self.status}"

    def spin(self, simulated_s: float) -> None:
        end = self.clock_ns[-1] + simulated_s * 1e9
        self.wait(lambda: self.clock_ns[-1] >= end)

    def reset(self) -> Any:
        future = self._reset.call_async(Trigger.Request())
        self.wait(future.done)
        return future.result()

    def set(self, **values: Any) -> Any:
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        future = self._parameters.call_async(SetParameters.Request(parameters=parameters))
        self.wait(future.done)
        return future.result().results[0]

    def command(self, velocity: tuple[float, float, float], stamp_ns: int = 0) -> None:
        message = TwistStamped()
        message.header.stamp = ENCODER.time(stamp_ns)
        message.twist.linear.x, message.twist.linear.y, message.twist.linear.z = velocity
        self.twist.publish(message)


def sensor_qos() -> Any:
    return QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
