"""A robot without a simulator, for measurements: a camera that looks down on a table with a box, a pose, a gripper.

``python -m mvla_pruned_ros.rigs.synthetic_robot --ros-args -p streams:=clouds -p late_file:=FILE`` publishes to a node
called ``policy``. The streams are those of ``STREAMS``. With ``late_file``, a line ``due published`` (steady clock,
nanoseconds) is appended to the file whenever an image or a cloud was late.
"""

from __future__ import annotations

import io
import itertools
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from PIL import Image as Picture
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from ..geometry.clouds import depth_to_points
from ..node.environment import prepare_environment
from ..node.ros_messages import ENCODER
from ..types import CameraModel
from . import qos

WIDTH, HEIGHT, FOCAL = 640, 480, 600.0  # pixels
CAMERA_HZ, CLOUD_HZ, POSE_HZ, GRIPPER_HZ = 30.0, 10.0, 100.0, 50.0
# By the parameter ``streams``: rate -> what is published together, with one stamp.
STREAMS: dict[str, dict[float, tuple[str, ...]]] = {
    "depth": {CAMERA_HZ: ("camera_info", "ee_pose", "gripper", "depth", "image")},
    "clouds": {
        CAMERA_HZ: ("image", "camera_info"), CLOUD_HZ: ("points",), POSE_HZ: ("ee_pose",), GRIPPER_HZ: ("gripper",)
    },
}  # fmt: skip
FRAME, BASE = "camera_color_optical_frame", "base"
EXTRINSICS = {  # from 1 m above the middle of the shipped policy's workspace, looking down
    "extrinsics.translation": [0.0, 0.66, 1.0],
    "extrinsics.rotation_xyzw": [1.0, 0.0, 0.0, 0.0],
}
MIDDLE = np.array([0.0, 0.66, 0.2])  # of the circle of the end effector, metres
CIRCLE_M, CIRCLE_S = 0.1, 8.0
CLOUDS = 4  # with the box at other places; they take turns
LATE_PERIODS = 1.5  # an image or cloud that comes more than this many periods after the one before is late


class SyntheticRobot(Node):
    """See the module. Pixels and clouds repeat; stamps and the pose are new each time."""

    def __init__(self) -> None:
        super().__init__("robot")
        groups = STREAMS[self.declare_parameter("streams", "depth").value]
        late_file = self.declare_parameter("late_file", "").value
        self._late_file = Path(late_file) if late_file else None
        if self._late_file is not None:
            self._late_file.write_text("")
        messages = synthetic_messages(tuple(name for names in groups.values() for name in names))
        self._streams: dict[str, Iterator[Any]] = {name: itertools.cycle([m]) for name, m in messages.items()}
        if "points" in messages:
            self._streams["points"] = itertools.cycle(synthetic_clouds())
        self._out = {n: self.create_publisher(type(m), f"/policy/{n}", qos.SENSOR) for n, m in messages.items()}
        self._last_ns: dict[str, int] = {}
        for rate, names in groups.items():
            self.create_timer(1 / rate, lambda names=names, rate=rate: self._publish(names, rate))

    def _publish(self, names: tuple[str, ...], rate_hz: float) -> None:
        stamp = ENCODER.time(time.time_ns())
        for name in names:
            message = next(self._streams[name])
            message.header.stamp = stamp
            if name == "ee_pose":
                angle = 2 * math.pi * time.monotonic() / CIRCLE_S
                position = message.pose.position
                position.x = float(MIDDLE[0] + CIRCLE_M * math.cos(angle))
                position.y = float(MIDDLE[1] + CIRCLE_M * math.sin(angle))
            self._out[name].publish(message)
        if self._late_file is not None and ("image" in names or "points" in names):
            self._note_lateness(self._late_file, names[0], round(1e9 / rate_hz))

    def _note_lateness(self, file: Path, name: str, period_ns: int) -> None:
        now = time.monotonic_ns()
        last = self._last_ns.get(name, now)
        if now - last > LATE_PERIODS * period_ns:
            with file.open("a") as lines:
                lines.write(f"{last + period_ns} {now}\n")
        self._last_ns[name] = now


def synthetic_camera(width: int = WIDTH, height: int = HEIGHT) -> CameraModel:
    """The camera, in its own frame."""
    focal = FOCAL * width / WIDTH
    return CameraModel(width, height, focal, focal, width / 2, height / 2, np.eye(4))


def synthetic_depth(
    rng: np.random.Generator, box_column: int = 300, width: int = WIDTH, height: int = HEIGHT
) -> np.ndarray:
    """(H, W) float32 metres: a table from above with a box that begins at a column (of ``WIDTH``); noisy."""
    scale = width / WIDTH
    depth = np.full((height, width), 0.95, np.float32)
    rows, columns = (200, 260), (box_column, box_column + 80)
    depth[slice(*(round(n * scale) for n in rows)), slice(*(round(n * scale) for n in columns))] = 0.85
    return depth + rng.normal(0, 0.001, depth.shape).astype(np.float32)


def synthetic_messages(names: tuple[str, ...], width: int = WIDTH, height: int = HEIGHT) -> dict[str, Any]:
    """One message for each topic named; stamps are zero.

    Pixels and depth are noisy, so that nothing compresses or repeats. The names: camera_info, ee_pose, gripper, depth,
    image, points, image/compressed.
    """
    rng = np.random.default_rng(0)
    camera = synthetic_camera(width, height)
    millimetres = (synthetic_depth(rng, width=width, height=height) * 1000).astype(np.uint16)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    makers = {
        "camera_info": lambda: ENCODER.camera_info(camera, 0, FRAME),
        "ee_pose": lambda: ENCODER.pose(MIDDLE, 0, BASE),
        "gripper": lambda: ENCODER.gripper(1.0, 0, BASE),
        "depth": lambda: ENCODER.image(millimetres, "16UC1", 0, FRAME),
        "image": lambda: ENCODER.image(pixels, "rgb8", 0, FRAME),
        "points": lambda: _cloud(millimetres * np.float32(0.001), camera),
        "image/compressed": lambda: _png(pixels),
    }
    return {name: makers[name]() for name in names}


def synthetic_clouds() -> list[Any]:
    """What a depth camera of 640 x 480 makes of the table: 307 200 points of x, y, z in the camera frame."""
    rng = np.random.default_rng(0)
    return [_cloud(synthetic_depth(rng, 200 + 60 * i), synthetic_camera()) for i in range(CLOUDS)]


def _cloud(depth: np.ndarray, camera: CameraModel) -> Any:
    return ENCODER.cloud("xyz", depth_to_points(depth, camera), 0, FRAME)


def _png(pixels: np.ndarray) -> Any:
    file = io.BytesIO()
    Picture.fromarray(pixels).save(file, "PNG")
    return ENCODER.compressed(file.getvalue(), "png", 0, FRAME)


def main() -> None:
    """Publish until the process is told to end."""
    prepare_environment()
    rclpy.init(args=sys.argv)
    try:
        rclpy.spin(SyntheticRobot())
    except (KeyboardInterrupt, ExternalShutdownException):
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
