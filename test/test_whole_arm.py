"""An arm of seven joints with a camera beside it and one on its hand, over DDS: is what the policy sees the truth?"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="no ROS here: the node needs a graph")

from geometry_msgs.msg import TwistStamped
from live_graph import SUCCESS, LiveGraph, graph, refusal, ros, wait_for  # noqa: F401
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image

from mvla_pruned_ros.geometry.clouds import depth_to_points
from mvla_pruned_ros.messages.decode import stamp_ns
from mvla_pruned_ros.node import policy_node
from mvla_pruned_ros.node.diagnostics import lost_images
from mvla_pruned_ros.node.ros_messages import ENCODER
from mvla_pruned_ros.node.worker import Result
from mvla_pruned_ros.observation.synchronizer import Synchronizer
from mvla_pruned_ros.rigs import qos, whole_arm
from mvla_pruned_ros.rigs.child_process import ChildNode
from mvla_pruned_ros.rigs.latency import INSTRUCTION, summarise
from mvla_pruned_ros.rigs.listener import PolicyListener
from mvla_pruned_ros.rigs.synthetic_robot import HEIGHT, WIDTH, synthetic_camera
from mvla_pruned_ros.rigs.whole_arm_policy import save_whole_arm_policy

CALLS = 60
APART_M, APART_RAD = 1e-3, 1e-3
OUTSIDE_TRANSITS = 8.0  # times what a bare subscription waits for one of the pictures, in the same run; 3.6 to 4.9 here


class Run:
    """Calls, commands and figures of a few seconds."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.twists: list[TwistStamped] = []
        self.transits_ms: list[float] = []
        self.figures: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}


@pytest.fixture(scope="module")
def run(ros: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The node in this process, so that its observations can be looked at; the robot in one of its own."""
    folder, run = tmp_path_factory.mktemp("whole_arm"), Run()
    policy = save_whole_arm_policy(folder / "policy", INSTRUCTION)
    # Old observations may move the arm: how fast this computer is says nothing about the commands.
    parameters = {"policy": str(policy), "device": "cpu", "instruction": INSTRUCTION, "discovery_wait_ms": 0.0,
                  "max_observation_age_ms": 10_000.0}  # fmt: skip
    overrides = [Parameter(name, value=value) for name, value in (parameters | whole_arm.PARAMETERS).items()]
    node, ears = policy_node.PolicyNode(parameter_overrides=overrides), Node("ears")
    listener = PolicyListener(ears, command_depth=1)
    ears.create_subscription(TwistStamped, "/policy/command/twist", run.twists.append, 100)

    def transit(image: Image) -> None:
        run.transits_ms.append((time.time_ns() - stamp_ns(image.header)) / 1e6)

    ears.create_subscription(Image, "/policy/image", transit, qos.SENSOR)
    run.parameters = {name: node.get_parameter(name).value for name in ("max_speed_m_s", "max_angular_speed_rad_s")}

    def publish(result: Result, before: Any = node._publish) -> None:
        if len(run.results) < CALLS:
            run.results.append(result)
        before(result)

    node._publish = publish  # type: ignore[method-assign]
    executors = [SingleThreadedExecutor() for _ in range(2)]
    for executor, one in zip(executors, (node, ears)):
        executor.add_node(one)
        threading.Thread(target=executor.spin, daemon=True).start()
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    robot = ChildNode(
        "robot", "mvla_pruned_ros.rigs.synthetic_robot", folder / "robot.log", {"streams": "whole_arm"}, {}, os.environ
    )
    try:
        assert wait_for(lambda: len(run.results) == CALLS and len(listener.calls) >= CALLS, 120.0), robot.tail()
        run.figures = summarise(listener.calls[10:], listener.commands)
    finally:
        robot.end()
        node.close()
        for executor in executors:
            executor.shutdown(timeout_sec=1.0)
        for one in (node, ears):
            one.destroy_node()
    return run


def truth(camera_pose: np.ndarray) -> np.ndarray:
    """(N, 3) points that a camera sees, without the steps of a depth image."""
    camera = synthetic_camera(base_from_camera=camera_pose)
    return depth_to_points(whole_arm.depth_of(camera), camera)


def holds(apart: list[float], limit: float) -> bool:
    """Nine of ten observations within the limit, all within five times as much: a busy machine loses poses between."""
    return float(np.quantile(apart, 0.9)) < limit and max(apart) < 5 * limit


def test_points_of_both_cameras_are_within_a_millimetre_of_the_truth(run: Run) -> None:
    beside, pixels, apart = truth(whole_arm.BESIDE), WIDTH * HEIGHT, []
    for result in run.results:
        seen = result.observation
        assert seen.points.shape == (2 * pixels, 3)
        assert np.linalg.norm(seen.points[:pixels] - beside, axis=1).max() < APART_M
        wrist = truth(whole_arm.wrist_at(result.stamps["depth_1"]))  # that of another frame where one was lost
        apart.append(float(np.linalg.norm(seen.points[pixels:] - wrist, axis=1).max()))
    assert holds(apart, APART_M), apart


def test_views_and_state_are_those_of_the_stamp(run: Run) -> None:
    way, turn, joints = [], [], []
    for result in run.results:
        seen = result.observation
        outside, wrist = (view.camera.base_from_camera for view in seen.views)
        np.testing.assert_allclose(outside, whole_arm.BESIDE, atol=1e-6)
        hand, state = whole_arm.hand_at(seen.stamp_ns), seen.state
        assert state.orientation is not None and state.joints is not None
        np.testing.assert_allclose(wrist, whole_arm.wrist_at(result.stamps["image_1"]), atol=5 * APART_M)
        way.append(float(np.linalg.norm(state.position - hand[:3, 3])))
        turn.append((Rotation.from_matrix(hand[:3, :3]).inv() * Rotation.from_quat(state.orientation)).magnitude())
        joints.append(float(np.abs(state.joints - whole_arm.joints_at(seen.stamp_ns)).max()))
    assert holds(way, APART_M) and holds(turn, APART_RAD), (way, turn)
    assert np.quantile(joints, 0.9) < 5 * APART_RAD, joints


def test_commands_move_and_turn_within_the_limits(run: Run) -> None:
    linear = np.array([[t.twist.linear.x, t.twist.linear.y, t.twist.linear.z] for t in run.twists])
    angular = np.array([[t.twist.angular.x, t.twist.angular.y, t.twist.angular.z] for t in run.twists])
    assert 0 < np.abs(linear).max() <= run.parameters["max_speed_m_s"] + 1e-9
    assert 0 < np.abs(angular).max() <= run.parameters["max_angular_speed_rad_s"] + 1e-9


def test_sensor_to_command_takes_no_longer_than_it_may(run: Run) -> None:
    transit_ms = float(np.median(run.transits_ms))
    assert 0 < run.figures["outside_ms_p50"] < OUTSIDE_TRANSITS * transit_ms, (transit_ms, run.figures)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        (
            {"joint_names": ["a"]},
            "takes the views image, image_1: name image_1 in extra_images, and remap ~/image_1 and",
        ),
        ({"extra_images": ["image_1"]}, "takes joint_positions: name the joints in joint_names, in the policy's order"),
    ],
)
def test_robot_that_does_not_tell_what_the_policy_takes_fails_configure(
    parameters: dict[str, Any], says: str, tmp_path: Path, graph: LiveGraph, capfd: pytest.CaptureFixture[str]
) -> None:
    policy = str(save_whole_arm_policy(tmp_path / "policy", INSTRUCTION))
    assert says in refusal(graph.node(policy=policy, **parameters), capfd)


def test_images_that_are_lost_are_told_of_each_view() -> None:
    def topic(stream: str) -> str:
        return f"/policy/{stream}"

    streams = ("image", "camera_info", "image_1", "image_1_camera_info")
    store = Synchronizer({name: topic(name) for name in streams}, clock=lambda: 0.0)
    for stamp in range(1, 41):
        for name in streams:
            if name != "image_1" or stamp % 2:
                store.put(name, ENCODER.gripper(1.0, stamp, ""), stamp, 10**9)
    text = lost_images(store)
    assert text.startswith("20 of 40 images arrived in the last 4 s on /policy/image_1: start the camera driver"), text


def test_the_policy_takes_both_views_orientation_and_joints(tmp_path: Path) -> None:
    from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy

    policy = MVLAPolicy.load(save_whole_arm_policy(tmp_path / "policy", INSTRUCTION))
    assert policy.views == ("image", "image_1") and {"ee_rotation_6d", "joint_positions"} < set(policy.proprio)
    assert policy.action_dim == 7 and policy.action_space == "cartesian_velocity"
