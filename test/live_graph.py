"""What tests of a live policy node share: a robot that publishes sensors, the node, and executors for both."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="no ROS here: the node needs a graph")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger
from waiting import wait_for

from mvla_pruned_ros.node import executable, policy_node
from mvla_pruned_ros.node.environment import prepare_environment
from mvla_pruned_ros.node.ros_messages import ENCODER
from mvla_pruned_ros.types import CameraModel

INSTRUCTION = "push the puck to the goal"
SIZE = 64
CAMERA = "camera_color_optical_frame"
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
STREAMS = ("camera_info", "ee_pose", "gripper", "depth", "image")


class Robot(Node):
    """publishes synthetic sensors and remembers what it is told."""

    def __init__(self, camera: CameraModel) -> None:
        super().__init__("robot")
        self.camera = camera
        kinds = {
            "image": Image,
            "depth": Image,
            "camera_info": CameraInfo,
            "ee_pose": PoseStamped,
            "gripper": JointState,
        }
        self.out = {name: self.create_publisher(kind, f"/policy/{name}", BEST_EFFORT) for name, kind in kinds.items()}
        self.clock_out = self.create_publisher(Clock, "/clock", 10)
        self.instruction = self.create_publisher(String, "/policy/instruction", 1)
        self.reset = self.create_client(Trigger, "/policy/reset")
        self.twists: list[TwistStamped] = []
        self.grippers: list[float] = []
        self.status: DiagnosticStatus | None = None
        self.calls: list[dict[str, Any]] = []
        self.create_subscription(TwistStamped, "/policy/command/twist", self.twists.append, 100)
        self.create_subscription(Float64, "/policy/command/gripper", lambda m: self.grippers.append(m.data), 100)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 10)
        self.create_subscription(String, "/policy/pruning", lambda m: self.calls.append(json.loads(m.data)), 10)
        rng = np.random.default_rng(0)
        self.pixels = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        self.depth = np.full((SIZE, SIZE), 1.0, np.float32)
        self.time_ns: int | None = None  # simulated; None takes the system's

    def _diagnosed(self, message: DiagnosticArray) -> None:
        self.status = message.status[0]

    @property
    def speeds(self) -> list[float]:
        """Speed of every command so far, m/s."""
        return [float(np.linalg.norm([t.twist.linear.x, t.twist.linear.y, t.twist.linear.z])) for t in self.twists]

    @property
    def moving(self) -> bool:
        return bool(self.twists) and self.speeds[-1] > 0

    def values(self) -> dict[str, str]:
        """Diagnostics by key."""
        return {v.key: v.value for v in self.status.values} if self.status else {}

    def send(self, without: tuple[str, ...] = (), stamp: int | None = None, **replaced: Any) -> int:
        """One set of messages; returns its stamp."""
        stamp = stamp if stamp is not None else self.time_ns or time.time_ns()
        messages = {
            "camera_info": ENCODER.camera_info(self.camera, stamp, CAMERA),
            "ee_pose": ENCODER.pose((0.0, 0.6, 0.2), stamp, "base"),
            "gripper": ENCODER.gripper(1.0, stamp, "base"),
            "depth": ENCODER.image(self.depth, "32FC1", stamp, CAMERA),
            "image": ENCODER.image(self.pixels, "rgb8", stamp, CAMERA),
        }
        for name in STREAMS:
            if name not in without:
                self.out[name].publish(replaced.get(name, messages[name]))
        return stamp

    def drive(self, until: Callable[[], Any], timeout_s: float = 8.0, **send: Any) -> bool:
        """Send at 20 Hz until something holds; simulated time goes on with it."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self.time_ns is not None:
                self.time_ns += 12_500_000
                self.clock_out.publish(Clock(clock=ENCODER.time(self.time_ns)))
                if self.time_ns % 50_000_000:
                    time.sleep(0.0125)
                    continue
            self.send(**send)
            if until():
                return True
            time.sleep(0.0125 if self.time_ns is not None else 0.05)
        return bool(until())


class LiveGraph:
    """Policy node and robot, each spun by threads of its own."""

    def __init__(self, folder: Path, camera: CameraModel) -> None:
        sys.setswitchinterval(executable.SWITCH_INTERVAL_S)  # as the executable does
        self.folder, self.camera = folder, camera
        self.robot = Robot(camera)
        self.nodes: list[policy_node.PolicyNode] = []
        self._executors: list[Any] = []
        self._spin(SingleThreadedExecutor(), self.robot)

    def _spin(self, executor: Any, node: Node) -> None:
        def spin() -> None:
            try:
                executor.spin()
            except Exception as error:  # shut down underneath
                if rclpy.ok():
                    print(f"executor of {node.get_name()} ended: {error!r}", file=sys.stderr)

        executor.add_node(node)
        self._executors.append(executor)
        threading.Thread(target=spin, daemon=True).start()

    def node(self, arguments: list[str] | None = None, **parameters: Any) -> policy_node.PolicyNode:
        """An unconfigured policy node. Args: arguments: of the command line. A parameter of None keeps its default."""
        pose = self.camera.base_from_camera
        defaults = {
            "policy": str(self.folder),
            "device": "cpu",
            "instruction": INSTRUCTION,
            "method": "random",
            "discovery_wait_ms": 0.0,
            "extrinsics.translation": pose[:3, 3].tolist(),
            "extrinsics.rotation_xyzw": Rotation.from_matrix(pose[:3, :3]).as_quat().tolist(),
        }
        given = {k: v for k, v in {**defaults, **parameters}.items() if v is not None}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        node = policy_node.PolicyNode(cli_args=arguments, parameter_overrides=overrides)
        self.nodes.append(node)
        return node

    def active(self, **parameters: Any) -> policy_node.PolicyNode:
        """A policy node that is active and has found the robot."""
        node = self.node(**parameters)
        self._spin(SingleThreadedExecutor(), node)
        assert node.trigger_configure() == SUCCESS
        assert node.trigger_activate() == SUCCESS
        robot = self.robot
        assert wait_for(
            lambda: (
                all(p.get_subscription_count() for p in robot.out.values())
                and robot.instruction.get_subscription_count()
            )
        )
        assert wait_for(lambda: robot.count_publishers("/policy/command/gripper"))
        return node

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        for executor in self._executors:
            executor.shutdown(timeout_sec=1.0)
        for node in [*self.nodes, self.robot]:
            node.destroy_node()


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    prepare_environment()
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def graph(
    tiny_policy_folder: Path, camera: Callable[..., CameraModel], monkeypatch: pytest.MonkeyPatch
) -> Iterator[LiveGraph]:
    monkeypatch.setattr(policy_node, "DIAGNOSTICS_PERIOD_S", 0.1)
    graph = LiveGraph(tiny_policy_folder, camera(SIZE, SIZE))
    yield graph
    graph.close()


def refusal(node: policy_node.PolicyNode, capfd: pytest.CaptureFixture[str]) -> str:
    """The one message with which configure fails."""
    capfd.readouterr()
    assert node.trigger_configure() == FAILURE
    lines = [line for line in capfd.readouterr().err.splitlines() if "ERROR" in line]
    assert len(lines) == 1 and "cannot configure" in lines[0], lines
    return lines[0]
