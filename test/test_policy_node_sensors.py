"""The policy node with more than one registered depth camera: tf, compressed depth, cameras in frames of their own.

tf2_ros exists only in ROS installations. Here a stand-in has its place, with the part of its interface that the node
uses: ``Buffer.lookup_transform(target, source, time)``, ``Buffer.clear()``, ``TransformListener(buffer, node)`` and
``TransformException``. It was not tried with the real one.
"""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Callable
from time import time_ns
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="no ROS here: the node needs a graph")

from bags import numbers_of
from depth_codecs import compressed_metres
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TransformStamped
from live_graph import BEST_EFFORT, FAILURE, SIZE, LiveGraph, graph, refusal, ros  # noqa: F401
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, JointState, PointCloud2
from std_msgs.msg import Header

from mvla_pruned_ros.bags.writer import bag_encoder
from mvla_pruned_ros.messages.decode import ConversionError
from mvla_pruned_ros.node.ros_messages import ENCODER
from mvla_pruned_ros.observation.builder import ObservationBuilder
from mvla_pruned_ros.observation.frames import Frames
from mvla_pruned_ros.observation.synchronizer import MatchedMessages
from mvla_pruned_ros.types import CameraModel

CAMERA, DEPTH = "camera_color_optical_frame", "camera_depth_optical_frame"
make = bag_encoder()
TF = {"extrinsics_source": "tf", "extrinsics.translation": None, "extrinsics.rotation_xyzw": None}


class TransformException(Exception):
    """Under the name it has in tf2_ros."""


class Buffer:
    """What the node asks; ``pose_at`` answers, None for what is not known."""

    def __init__(self) -> None:
        self.pose_at: Callable[[int], np.ndarray | None] = lambda stamp: None
        self.asked: list[tuple[str, str]] = []
        self.cleared = 0

    def lookup_transform(self, target_frame: str, source_frame: str, time: Any, timeout: Any = None) -> Any:
        self.asked.append((target_frame, source_frame))
        pose = self.pose_at(time.nanoseconds)
        if pose is None:
            raise TransformException("Lookup would require extrapolation into the future")
        found = TransformStamped()
        found.header.stamp = ENCODER.time(time.nanoseconds or time_ns())
        t, q = found.transform.translation, found.transform.rotation
        t.x, t.y, t.z, q.x, q.y, q.z, q.w = numbers_of(pose)
        return found

    def clear(self) -> None:
        self.cleared += 1


@pytest.fixture
def buffer(monkeypatch: pytest.MonkeyPatch) -> Buffer:
    """That of the node to come."""
    made = Buffer()
    module = ModuleType("tf2_ros")
    module.TransformException = TransformException  # type: ignore[attr-defined]
    module.Buffer = lambda: made  # type: ignore[attr-defined]
    module.TransformListener = lambda buffer, node: (buffer, node)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    return made


def test_missing_transform_stops_the_arm_and_a_late_one_is_waited_for(graph: LiveGraph, buffer: Buffer) -> None:
    node, robot = graph.active(**TF), graph.robot
    still = graph.camera.base_from_camera
    assert robot.drive(lambda: int(robot.values().get("dropped no transform", 0)) > 2, 30.0)
    assert not any(robot.speeds), "without a transform nothing moves"
    assert robot.status is not None and robot.status.level != DiagnosticStatus.OK
    assert "no transform: 'camera_color_optical_frame' in 'base'" in robot.status.message
    assert set(buffer.asked) == {("base", CAMERA)}

    first: dict[int, float] = {}

    def late(stamp: int) -> np.ndarray | None:
        """The pose at a stamp is there 10 ms after it was first asked for, and moves a centimetre every second."""
        if time.monotonic() - first.setdefault(stamp, time.monotonic()) < 0.01:
            return None
        pose = still.copy()
        pose[0, 3] += moved_m(stamp)
        return pose

    buffer.pose_at = late
    node.set_parameters([Parameter("tf_timeout_ms", value=500.0)])
    worker = node._worker
    assert worker is not None and worker.last is None
    assert robot.drive(lambda: worker.last is not None, 30.0), robot.status.message
    assert worker.last is not None
    seen = worker.last.observation
    assert seen.views[0].camera.base_from_camera[0, 3] == pytest.approx(still[0, 3] + moved_m(seen.stamp_ns), abs=1e-9)
    assert buffer.cleared == 0
    node._forget()
    assert buffer.cleared == 1, "after a clock jump tf2 would refuse what is older than what it has"


def moved_m(stamp: int) -> float:
    return 0.01 * (stamp % 10**9) / 10**9


def test_tf_without_tf2_fails_configure_and_says_what_to_do(
    graph: LiveGraph,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    line = refusal(graph.node(**TF), capfd)
    assert "tf2_ros cannot be imported" in line and "extrinsics.*" in line


def test_arm_that_publishes_tf_and_joints_only_is_driven_as_its_drivers_have_it(
    graph: LiveGraph, buffer: Buffer
) -> None:
    """Fingers among joints, the arm's joints between, tool0 in tf, the gripper told in metres."""
    robot = graph.robot
    del robot.out["ee_pose"]
    of_the_arm = robot.create_publisher(JointState, "/policy/gripper", BEST_EFFORT)  # another driver, the same topic
    node = graph.active(
        ee_pose_source="tf", ee_frame="tool0", gripper_joint="finger", gripper_open=0.04,
        gripper_command_range=[0.08, 0.0], command_interface="pose", max_observation_age_ms=3000.0,
    )  # fmt: skip
    assert "ee_pose" not in node._store.topics
    tool = np.eye(4)
    tool[:3, 3] = 0.05, 0.6, 0.2
    buffer.pose_at = lambda stamp: tool
    fingers, arm = ENCODER.gripper(0.03, time_ns(), "base"), ENCODER.gripper(0.0, time_ns(), "base")
    fingers.name, fingers.position = ["joint1", "finger"], array("d", [2.0, 0.03])
    arm.name, arm.position = ["joint1", "joint2"], array("d", [2.0, 1.0])

    def send(with_fingers: bool) -> None:
        stamp = time_ns()
        for message in (arm, fingers, arm)[: 3 if with_fingers else 1]:
            message.header.stamp = ENCODER.time(stamp)
            (robot.out["gripper"] if message is fingers else of_the_arm).publish(message)
        robot.send(without=("ee_pose", "gripper"), stamp=stamp)
        time.sleep(0.03)

    def says(text: str) -> bool:
        return robot.status is not None and text in robot.status.message

    until = time.monotonic() + 30
    while not says("joint 'finger' (gripper_joint)") and time.monotonic() < until:
        send(with_fingers=False)
    assert says("/policy/gripper with joint 'finger' (gripper_joint), only messages with these: joint1, joint2")
    worker = node._worker
    assert worker is not None and worker.last is None
    poses: list[Any] = []
    robot.create_subscription(PoseStamped, "/policy/command/pose", poses.append, 100)
    while not (worker.last and poses and robot.grippers) and time.monotonic() < until:
        send(with_fingers=True)
    assert worker.last is not None, robot.status and robot.status.message
    state = worker.last.observation.state
    np.testing.assert_allclose([*state.position, state.gripper], [0.05, 0.6, 0.2, 0.75], atol=1e-6)
    assert node._state.current.position is not None
    assert ("base", "tool0") in buffer.asked
    at = poses[-1].pose.position
    assert np.abs([at.x - 0.05, at.y - 0.6, at.z - 0.2]).max() < 0.1, "leads on from where tf says it is"
    assert robot.grippers and all(0.0 <= command <= 0.08 for command in robot.grippers)
    assert not any("gripper" in cause for cause in node._store.drops)
    assert not says("publishers on /policy/gripper")


def test_end_effector_of_tf_without_tf2_fails_configure_and_names_the_parameter(
    graph: LiveGraph, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    line = refusal(graph.node(ee_pose_source="tf", ee_frame="tool0"), capfd)
    assert "ee_pose_source is tf, but tf2_ros cannot be imported" in line and "ee_pose_source to topic" in line


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"extrinsics_source": "tf"}, "extrinsics_source is tf: leave extrinsics"),
        ({"depth_registered": False}, "name the frame of ~/depth in sensor_frames"),
        ({"sensor_frames": [DEPTH], "sensor_extrinsics": [0.0] * 6}, "6 numbers, sensor_frames 1"),
    ],
)
def test_poses_that_do_not_fit_together_fail_configure(
    graph: LiveGraph,
    parameters: dict[str, Any],
    says: str,
    buffer: Buffer,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert says in refusal(graph.node(**parameters), capfd)


def test_wrong_name_of_a_cloud_is_refused_at_start(graph: LiveGraph) -> None:
    with pytest.raises(ValueError, match="extra_clouds has 'wrist'"):
        graph.node(extra_clouds=["wrist"])


def test_compressed_depth_of_a_camera_of_its_own_and_a_second_cloud(graph: LiveGraph) -> None:
    robot, camera = graph.robot, graph.camera
    del robot.out["depth"]
    kinds = {"depth/compressedDepth": CompressedImage, "depth_camera_info": CameraInfo, "points_1": PointCloud2}
    robot.out |= {name: robot.create_publisher(kind, f"/policy/{name}", BEST_EFFORT) for name, kind in kinds.items()}
    beside = camera.base_from_camera.copy()
    beside[:3, 3] += [0.05, 0.0, 0.0]
    node = graph.active(
        depth_transport="compressedDepth",
        depth_registered=False,
        extra_clouds=["points_1"],
        sensor_frames=[DEPTH],
        sensor_extrinsics=numbers_of(beside),
    )
    width, height, xyz = 80, 45, np.random.default_rng(0).uniform(-0.2, 0.2, (300, 3)).astype(np.float32)
    data = array("B", compressed_metres(np.full((height, width), 1.0, np.float32)))

    def send() -> None:
        stamp = time.time_ns()
        header = Header(stamp=ENCODER.time(stamp), frame_id=DEPTH)
        info = CameraInfo(header=header, width=width, height=height)
        info.k = [70.0, 0.0, 39.5, 0.0, 70.0, 22.0, 0.0, 0.0, 1.0]
        robot.out["depth_camera_info"].publish(info)
        robot.out["depth/compressedDepth"].publish(
            CompressedImage(header=header, format="32FC1; compressedDepth png", data=data)
        )
        robot.out["points_1"].publish(ENCODER.cloud("xyz", xyz, stamp, "base"))
        robot.send(without=("depth",), stamp=stamp)

    worker = node._worker
    assert worker is not None
    until = time.monotonic() + 30
    while worker.last is None and time.monotonic() < until:
        send()
        time.sleep(0.05)
    assert worker.last is not None, robot.status and robot.status.message
    observation = worker.last.observation
    assert observation.points.shape == (width * height + 300, 3) and observation.views[0].image.shape == (SIZE, SIZE, 3)
    np.testing.assert_array_equal(observation.points[-300:], xyz)
    own = CameraModel(width, height, 70.0, 70.0, 40.0, 22.5, beside)
    uv, depth = own.project(observation.points[:-300])
    np.testing.assert_allclose(depth, 1.0, atol=2e-4)
    np.testing.assert_allclose(uv[0], [0.5, 0.5], atol=1e-3)


def test_a_cloud_that_serves_several_images_is_converted_once_and_a_new_one_anew() -> None:
    """And a depth image always, because what becomes of it depends on its camera info."""
    frames = Frames("base", CAMERA, {CAMERA: np.eye(4)})
    builder = ObservationBuilder(frames)
    camera = CameraModel(32, 24, 30.0, 30.0, 16.0, 12.0, np.eye(4))

    def matched(stamp: int, **clouds: Any) -> MatchedMessages:
        own = {
            "image": make.image(np.full((24, 32, 3), stamp % 256, np.uint8), "rgb8", stamp, CAMERA),
            "camera_info": make.camera_info(camera, stamp, CAMERA),
            "ee_pose": make.pose(np.zeros(3), stamp, "base"),
            "gripper": make.gripper(1.0, stamp, "base"),
        }
        return MatchedMessages(stamp, own | clouds, 0.0, stamp)

    def cloud(height: float) -> Any:
        return make.cloud("xyz", np.tile(np.float32([0, 1, height]), (40, 1)), 5, "base")

    first, second, left = cloud(0.1), cloud(0.2), cloud(0.3)
    a, b = builder.build(matched(10, points=first), "go"), builder.build(matched(11, points=first), "go")
    assert a.points is b.points and a.views[0].image[0, 0, 0] == 10 and b.views[0].image[0, 0, 0] == 11
    c = builder.build(matched(12, points=second), "go")
    np.testing.assert_allclose(c.points[:, 2], 0.2, atol=1e-7)
    both = [builder.build(matched(13, points=second, points_1=one), "go").points for one in (left, left, first)]
    assert both[0] is both[1] and both[2] is not both[0]
    np.testing.assert_allclose(both[2][40:, 2], 0.1, atol=1e-7)
    depth = make.image(np.ones((24, 32), np.float32), "32FC1", 14, CAMERA)
    d, e = (builder.build(matched(14, depth=depth), "go").points for _ in range(2))
    assert d is not e
    np.testing.assert_array_equal(d, e)
    with pytest.raises(ConversionError):
        builder.build(matched(15, points=make.cloud("x", np.zeros((1, 1)), 15, "base")), "go")
    assert builder.build(matched(16, points=first), "go").points is not a.points
