"""The sensors of the simulated robot as ROS topics."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..messages.encode import Encoder
from ..node.ros_messages import ENCODER, message_class
from ..node.ros_releases import PublisherEventCallbacks
from ..types import CameraModel
from .metaworld.viewpoint import HAND_ORIENTATION
from .robot import Robot
from .wiring import BASE_FRAME, Wiring, wiring_of


class SensorTopics:
    """Publishes what the sensors see."""

    def __init__(self, node: Any, qos: Any, wiring: Wiring) -> None:
        """Args: node: a rclpy node. qos: of every topic. wiring: says which there are."""
        # Silent on QoS: the policy node listens to camera_info twice, and one of the two need not match.
        silent = PublisherEventCallbacks(use_default_callbacks=False)
        self._out = {
            name: node.create_publisher(message_class(kind), f"~/{name}", qos, event_callbacks=silent)
            for name, kind in wiring.topics().items()
        }

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
        make: of the classes that are wanted. points: whether there is a cloud of the first camera among them.
    """
    wiring, shots, state = wiring_of(robot.task.name), robot.render(), robot.state
    turn = HAND_ORIENTATION if state.orientation is None else state.orientation
    first, shot = wiring.cameras[0], shots[0]
    messages = {
        "camera_info": make.camera_info(shot.view.camera, stamp_ns, first.frame),
        "ee_pose": make.pose(state.position, stamp_ns, BASE_FRAME, turn),
        "gripper": make.gripper(state.gripper, stamp_ns, BASE_FRAME),
        "depth": make.depth(shot.depth, stamp_ns, first.frame),
    }
    if state.joints is not None:
        messages["joint_states"] = make.joints(wiring.joints, state.joints, stamp_ns, BASE_FRAME)
    for camera, other in zip(wiring.cameras[1:], shots[1:]):
        messages |= {
            name: make.camera_info(other.view.camera, stamp_ns, camera.frame)
            for name in (camera.info, f"{camera.depth}_camera_info")
        }
        messages[camera.depth] = make.depth(other.depth, stamp_ns, camera.frame)
        messages[camera.view] = make.image(other.view.image, "rgb8", stamp_ns, camera.frame)
    if points:
        messages["points"] = make.cloud("xyz", organised_points(shot.depth, shot.view.camera), stamp_ns, first.frame)
    return messages | {first.view: make.image(shot.view.image, "rgb8", stamp_ns, first.frame)}


def organised_points(depth: np.ndarray, camera: CameraModel) -> np.ndarray:
    """(H, W, 3) float32 points in the optical frame of (H, W) metres; NaN where nothing was hit (0)."""
    u = ((np.arange(camera.width) + 0.5 - camera.cx) / camera.fx).astype(np.float32)
    v = ((np.arange(camera.height) + 0.5 - camera.cy) / camera.fy).astype(np.float32)
    z = np.where(depth > 0, depth, np.float32(np.nan))
    return np.stack([u * z, v[:, None] * z, z], -1)
