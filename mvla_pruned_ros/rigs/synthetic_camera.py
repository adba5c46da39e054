"""A camera that shows a table with a box on it from above: colour, depth, pose and gripper at camera rate.

Made up, for measurements: ``python -m mvla_pruned_ros.rigs.synthetic_camera`` publishes to a node called ``policy``. See
``synthetic_robot`` for one whose streams come at rates of their own.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, JointState
from std_msgs.msg import Header

from ..node.conversions import time_message
from ..node.environment import prepare_environment
from ..node.message_fallback import cv2_to_imgmsg

WIDTH, HEIGHT, FOCAL = 640, 480, 600.0  # pixels
CAMERA_HZ = 30.0
FRAME, BASE = "camera_color_optical_frame", "base"
SENSOR_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
EXTRINSICS = {  # from 1 m above the middle of the shipped policy's workspace, looking down
    "extrinsics.translation": [0.0, 0.66, 1.0],
    "extrinsics.rotation_xyzw": [1.0, 0.0, 0.0, 0.0],
}


class SyntheticCamera(Node):
    """See the module. The same pixels each time; only the stamp is new."""

    def __init__(self) -> None:
        super().__init__("camera")
        self._messages = synthetic_frame()
        self._out = {
            name: self.create_publisher(type(message), f"/policy/{name}", SENSOR_QOS)
            for name, message in self._messages.items()
        }
        self.create_timer(1 / CAMERA_HZ, self._publish)

    def _publish(self) -> None:
        stamp = time_message(time.time_ns())
        for name, message in self._messages.items():
            message.header.stamp = stamp
            self._out[name].publish(message)


def synthetic_depth(
    rng: np.random.Generator, box_column: int = 300, width: int = WIDTH, height: int = HEIGHT
) -> np.ndarray:
    """(H, W) float32 metres: a table from above with a box that begins at a column (of ``WIDTH``); noisy."""
    scale = width / WIDTH
    depth = np.full((height, width), 0.95, np.float32)
    rows, columns = (200, 260), (box_column, box_column + 80)
    depth[slice(*(round(n * scale) for n in rows)), slice(*(round(n * scale) for n in columns))] = 0.85
    return depth + rng.normal(0, 0.001, depth.shape).astype(np.float32)


def synthetic_frame(width: int = WIDTH, height: int = HEIGHT) -> dict[str, Any]:
    """One message per topic; pixels and depth are noisy, so that nothing compresses or repeats. Stamps are zero."""
    rng = np.random.default_rng(0)
    depth = synthetic_depth(rng, width=width, height=height)
    camera, base = Header(frame_id=FRAME), Header(frame_id=BASE)
    info = CameraInfo(header=camera, width=width, height=height)
    focal = FOCAL * width / WIDTH
    info.k = [focal, 0.0, width / 2 - 0.5, 0.0, focal, height / 2 - 0.5, 0.0, 0.0, 1.0]
    pose = PoseStamped(header=base)
    pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = 0.0, 0.66, 0.2
    return {
        "camera_info": info,
        "ee_pose": pose,
        "gripper": JointState(header=base, position=[1.0]),
        "depth": cv2_to_imgmsg((depth * 1000).astype(np.uint16), "16UC1", camera),
        "image": cv2_to_imgmsg(rng.integers(0, 256, (height, width, 3), np.uint8), "rgb8", camera),
    }


def publish(kind: type[Node]) -> None:
    """Let a node of this kind publish until the process is told to end."""
    prepare_environment()
    rclpy.init(args=sys.argv)
    try:
        rclpy.spin(kind())
    except (KeyboardInterrupt, ExternalShutdownException):
        rclpy.try_shutdown()


if __name__ == "__main__":
    publish(SyntheticCamera)
