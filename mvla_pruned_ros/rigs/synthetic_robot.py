"""Sensors of a robot for hours: colour 640 x 480 at 30 Hz, clouds at 10 Hz, pose at 100 Hz, gripper at 50 Hz.

``python -m mvla_pruned_ros.rigs.synthetic_robot --ros-args -p late_file:=FILE`` publishes to a node called ``policy`` and
appends a line ``due published`` (steady clock, nanoseconds) to the file whenever an image or a cloud was late.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from ..geometry.clouds import depth_to_points
from ..node.conversions import time_message
from ..node.message_fallback import create_cloud
from ..types import CameraModel
from .synthetic_camera import CAMERA_HZ, FOCAL, FRAME, HEIGHT, SENSOR_QOS, WIDTH, synthetic_depth, synthetic_frame, publish

CLOUD_HZ, POSE_HZ, GRIPPER_HZ = 10.0, 100.0, 50.0
CLOUDS = 4  # with the box at other places; they take turns
LATE_PERIODS = 1.5  # an image or cloud that comes more than this many periods after the one before is late
CIRCLE_M, CIRCLE_S = 0.1, 8.0  # the end effector goes round


class SyntheticRobot(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("robot")
        self._late_file = Path(self.declare_parameter("late_file", "late.txt").value)
        self._late_file.write_text("")
        messages = synthetic_frame()
        del messages["depth"]
        clouds = itertools.cycle(synthetic_clouds())
        self._out = {
            name: self.create_publisher(kind, f"/policy/{name}", SENSOR_QOS)
            for name, kind in {**{n: type(m) for n, m in messages.items()}, "points": PointCloud2}.items()
        }
        self._streams: dict[str, Iterator[Any]] = {name: itertools.repeat(m) for name, m in messages.items()}
        self._streams["points"] = clouds
        self._last_ns: dict[str, int] = {}
        self.create_timer(1 / CAMERA_HZ, lambda: self._publish("image", CAMERA_HZ))
        self.create_timer(1 / CLOUD_HZ, lambda: self._publish("points", CLOUD_HZ))
        self.create_timer(1 / POSE_HZ, lambda: self._publish("ee_pose"))
        self.create_timer(1 / GRIPPER_HZ, lambda: self._publish("gripper"))

    def _publish(self, name: str, rate_hz: float = 0.0) -> None:
        message, stamp = next(self._streams[name]), time_message(time.time_ns())
        message.header.stamp = stamp
        if name == "ee_pose":
            angle = 2 * math.pi * time.monotonic() / CIRCLE_S
            position = message.pose.position
            position.x, position.y = CIRCLE_M * math.cos(angle), 0.66 + CIRCLE_M * math.sin(angle)
        self._out[name].publish(message)
        if name == "image":
            info = next(self._streams["camera_info"])
            info.header.stamp = stamp
            self._out["camera_info"].publish(info)
        if rate_hz:
            self._note_lateness(name, round(1e9 / rate_hz))

    def _note_lateness(self, name: str, period_ns: int) -> None:
        now = time.monotonic_ns()
        last = self._last_ns.get(name, now)
        if now - last > LATE_PERIODS * period_ns:
            with self._late_file.open("a") as file:
                file.write(f"{last + period_ns} {now}\n")
        self._last_ns[name] = now


def synthetic_clouds() -> list[PointCloud2]:
    """What a depth camera of 640 x 480 makes of the table: 307 200 points of x, y, z in the camera frame."""
    rng = np.random.default_rng(0)
    camera = CameraModel(WIDTH, HEIGHT, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, np.eye(4))
    fields = [PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, n in enumerate("xyz")]
    return [
        create_cloud(Header(frame_id=FRAME), fields, depth_to_points(synthetic_depth(rng, 200 + 60 * i), camera))
        for i in range(CLOUDS)
    ]


if __name__ == "__main__":
    publish(SyntheticRobot)
