"""The simulator node with LIBERO's Panda: two cameras, a hand that turns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
pytest.importorskip("libero.libero", reason="the extra libero is not installed: make test ROBOT=panda")

from geometry_msgs.msg import PoseStamped, TwistStamped
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image, JointState
from simulator_driver import MODULE, Driver, sensor_qos

from mvla_pruned_ros.geometry.clouds import depth_to_points
from mvla_pruned_ros.messages.calibration import camera_model
from mvla_pruned_ros.messages.decode import depth_to_metres, image_to_rgb, stamp_ns
from mvla_pruned_ros.rigs.child_process import ChildNode, end_all
from mvla_pruned_ros.rigs.graph import Graph
from mvla_pruned_ros.sim.wiring import wiring_of

TASK = "libero_object_scattered/2"
WIRING = wiring_of(TASK)
KINDS = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CameraInfo": CameraInfo, "geometry_msgs/msg/PoseStamped":
         PoseStamped, "sensor_msgs/msg/JointState": JointState}  # fmt: skip


class Ears:
    """The messages of every sensor by their stamps."""

    def __init__(self, driver: Driver) -> None:
        self.heard: dict[str, dict[int, Any]] = {}
        for name, kind in WIRING.topics().items():
            if name != "points":
                self.heard[name] = {}
                driver.subscribe(KINDS[kind], f"/simulator/{name}", self._take(name), sensor_qos())

    def _take(self, name: str) -> Any:
        return lambda message: self.heard[name].update({stamp_ns(message.header): message})

    def whole(self) -> list[int]:
        """Stamps of which every sensor was heard."""
        return sorted(set.intersection(*(set(messages) for messages in self.heard.values())))

    def newest(self) -> dict[str, Any]:
        stamp = self.whole()[-1]
        return {name: messages[stamp] for name, messages in self.heard.items()}


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Driver, Ears]]:
    folder = tmp_path_factory.mktemp("simulator")
    with Graph("driver", int(os.environ["ROS_DOMAIN_ID"])) as graph:
        parameters = {"task": TASK, "seed": 3, "auto_reset": False, "image_size": 64, "camera_rate_hz": 10.0}
        child = ChildNode("simulator", MODULE, folder / "log", parameters, {}, graph.environment)
        try:
            driver = Driver(graph)
            ears = Ears(driver)
            driver.wait(lambda: driver.status and driver._reset.service_is_ready(), 60.0)
            driver.wait(lambda: driver.status["image_subscribers"] and driver.status["command_publishers"])
            assert driver.reset().success, child.tail()
            driver.wait(ears.whole)
            yield driver, ears
        finally:
            end_all([child])
    assert child.process.returncode == 0, child.tail()


def hand(message: PoseStamped) -> np.ndarray:
    """(4, 4) pose in the base frame."""
    pose, (p, q) = np.eye(4), (message.pose.position, message.pose.orientation)
    pose[:3, :3], pose[:3, 3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix(), (p.x, p.y, p.z)
    return pose


def test_both_cameras_arrive_with_infos_and_see_one_scene(driver: tuple[Driver, Ears]) -> None:
    messages = driver[1].newest()
    clouds = []
    for camera in WIRING.cameras:
        picture, info = messages[camera.view], messages[camera.info]
        assert picture.header.frame_id == info.header.frame_id == camera.frame
        assert image_to_rgb(picture).shape == (64, 64, 3) and image_to_rgb(picture).std() > 10
        pose = hand(messages["ee_pose"]) @ camera.pose if camera.on_hand else camera.pose
        model = camera_model(info, 64, 64, pose)
        clouds.append(depth_to_points(depth_to_metres(messages[camera.depth]), model))
    # What the wrist sees below it is a part of what the camera outside sees: the floor and things on it.
    assert all(abs(np.percentile(cloud[:, 2], 5)) < 0.01 for cloud in clouds), "the floor is at z = 0"
    outside, wrist = clouds
    near = np.linalg.norm(outside[:, None] - wrist[None, ::20], axis=2).min(0)
    assert np.median(near) < 0.02


def test_state_is_that_of_the_arm(driver: tuple[Driver, Ears]) -> None:
    messages = driver[1].newest()
    joints, gripper = messages["joint_states"], messages["gripper"]
    assert tuple(joints.name) == WIRING.joints and len(joints.position) == 7 and min(map(abs, joints.position)) < 0.1
    assert list(gripper.name) == ["gripper"] and 0.8 < gripper.position[0] <= 1.0
    down = hand(messages["ee_pose"])[:3, 2]
    assert down[2] < -0.99, "the hand points down at first"


def test_twist_turns_the_hand(driver: tuple[Driver, Ears]) -> None:
    robot, ears = driver
    before = hand(ears.newest()["ee_pose"])
    message = TwistStamped()
    message.twist.angular.z = 0.5
    end = robot.clock_ns[-1] + 10**9
    while robot.clock_ns[-1] < end:
        robot.twist.publish(message)
        robot.spin(0.1)
    after = hand(ears.newest()["ee_pose"])
    turned = Rotation.from_matrix(after[:3, :3] @ before[:3, :3].T).as_rotvec()
    assert turned[2] > 0.25 and np.abs(turned[:2]).max() < 0.05
    assert np.linalg.norm(after[:3, 3] - before[:3, 3]) < 0.03


def test_a_task_of_the_other_robot_is_refused_and_one_of_the_other_suite_is_not(driver: tuple[Driver, Ears]) -> None:
    robot, _ = driver
    answer = robot.set(task="push")
    assert not answer.successful and "is for another robot" in answer.reason
    assert robot.set(task="libero_spatial/0").successful
