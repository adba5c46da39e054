"""The sensors of the simulated robot as ROS topics."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..messages.encode import Encoder
from ..node.ros_messages import ENCODER, message_class
from ..types import CameraModel
from .metaworld.viewpoint import BASE_FRAME, CAMERA_FRAME, HAND_ORIENTATION
from .robot import Robot

TOPICS = {
    "camera_info": "sensor_msgs/msg/CameraInfo",
    "ee_pose": "geometry_msgs/msg/PoseStamped",
    "gripper": "sensor_msgs/msg/JointState",
    "depth": "sensor_msgs/msg/Image",
    "points": "sensor_msgs/msg/PointCloud2",
    "image": "sensor_msgs/msg/Image",
}


class SensorTopics:
    """Publishes what the sensors see."""

    def __init__(self, node: Any, qos: Any) -> None:
        """Args: node: a rclpy node. qos: of every topic."""
        create = node.create_publisher
        self._out = {name: create(message_class(kind), f"~/{name}", qos) for name, kind in TOPICS.items()}

    @property
    def image_subscribers(self) -> int:
        """How many listen to the image."""
        return self._out["image"].get_subscription_count()

    def publish(self, robot: Robot, stamp_ns: int) -> None:
        """One frame."""
        points = bool(self._out["points"].get_subscription_count())
        for name, message in sensor_messages(robot, ENCODER, stamp_ns, points).items():
            self._out[name].publish(message)


def sensor_messages(robot: Robot, make: Encoder, stamp_ns: int, points: bool = False) -> dict[str, Any]:
    """What the sensors see now, by topic; the image comes last, so that its partners are there when it arrives.

    Args:
        make: of the classes that are wanted. points: whether there is a cloud among them.
    """
    (shot,) = robot.render()
    state, camera, depth = robot.state, shot.view.camera, shot.depth
    messages = {
        "camera_info": make.camera_info(camera, stamp_ns, CAMERA_FRAME),
        "ee_pose": make.pose(state.position, stamp_ns, BASE_FRAME, HAND_ORIENTATION),
        "gripper": make.gripper(state.gripper, stamp_ns, BASE_FRAME),
        "depth": make.depth(depth, stamp_ns, CAMERA_FRAME),
    }
    if points:
        messages["points"] = make.cloud("xyz", organised_points(depth, camera), stamp_ns, CAMERA_FRAME)
    return messages | {"image": make.image(shot.view.image, "rgb8", stamp_ns, CAMERA_FRAME)}


def organised_points(depth: np.ndarray, camera: CameraModel) -> np.ndarray:
    """(H, W, 3) float32 points in the optical frame of (H, W) metres; NaN where nothing was hit (0)."""
    u = ((np.arange(camera.width) + 0.5 - camera.cx) / camera.fx).astype(np.float32)
    v = ((np.arange(camera.height) + 0.5 - camera.cy) / camera.fy).astype(np.float32)
    z = np.where(depth > 0, depth, np.float32(np.nan))
    return np.stack([u * z, v[:, None] * z, z], -1)
