"""A robot without a simulator, for measurements: a camera that looks down on a table with a box, a pose, a gripper.

``python -m mvla_pruned_ros.rigs.synthetic_robot --ros-args -p streams:=clouds -p late_file:=FILE`` publishes to a node
called ``policy``. The streams are those of ``STREAMS``; with ``whole_arm`` the robot is that of ``whole_arm``, of which
all is known at each stamp. With ``late_file``, a line ``due published`` (steady clock,
nanoseconds) is appended to the file whenever an image or a cloud was late.
"""

from __future__ import annotations

import io
import itertools
import math
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from PIL import Image as Picture
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from scipy.spatial.transform import Rotation

from ..geometry.clouds import depth_to_points
from ..node.environment import prepare_environment
from ..node.ros_messages import ENCODER
from ..types import CameraModel
from . import qos, whole_arm

WIDTH, HEIGHT, FOCAL = 640, 480, 600.0  # pixels
CAMERA_HZ, CLOUD_HZ, POSE_HZ, GRIPPER_HZ = 30.0, 10.0, 100.0, 50.0
# By the parameter ``streams``: rate -> what is published together, with one stamp.
STREAMS: dict[str, dict[float, tuple[str, ...]]] = {
    "depth": {CAMERA_HZ: ("camera_info", "ee_pose", "gripper", "depth", "image")},
    "clouds": {
        CAMERA_HZ: ("image", "camera_info"), CLOUD_HZ: ("points",), POSE_HZ: ("ee_pose",), GRIPPER_HZ: ("gripper",)
    },
    "whole_arm": {POSE_HZ: ("ee_pose", "joint_states"), GRIPPER_HZ: ("gripper",)},
}  # fmt: skip
# Of the whole arm, published together by a thread: what the wrist sees is computed before the stamp of it.
CAMERAS = (
    "camera_info", "image_1_camera_info", "depth_1_camera_info", "depth_1", "depth", "image_1", "image"
)  # fmt: skip
FRAME, BASE = whole_arm.OUTSIDE, "base"
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
        streams = self.declare_parameter("streams", "depth").value
        groups = STREAMS[streams]
        late_file = self.declare_parameter("late_file", "").value
        self._late_file = Path(late_file) if late_file else None
        if self._late_file is not None:
            self._late_file.write_text("")
        self._whole_arm = streams == "whole_arm"
        filmed = CAMERAS if self._whole_arm else ()
        messages = synthetic_messages((*(name for names in groups.values() for name in names), *filmed))
        self._streams: dict[str, Iterator[Any]] = {name: itertools.cycle([m]) for name, m in messages.items()}
        if "points" in messages:
            self._streams["points"] = itertools.cycle(synthetic_clouds())
        self._out = {n: self.create_publisher(type(m), f"/policy/{n}", qos.SENSOR) for n, m in messages.items()}
        self._last_ns: dict[str, int] = {}
        for rate, names in groups.items():
            self.create_timer(1 / rate, lambda names=names, rate=rate: self._publish(names, rate))
        if self._whole_arm:
            beside = synthetic_camera(base_from_camera=whole_arm.BESIDE)
            messages["depth"].data = ENCODER.data(whole_arm.depth_values(beside))
            threading.Thread(target=self._film, args=(messages,), daemon=True).start()

    def _whole_arm_at(self, name: str, stamp_ns: int) -> Any:
        """What the whole arm says of itself at a stamp, None for streams that never change."""
        if not self._whole_arm or name not in ("ee_pose", "joint_states"):
            return None
        if name == "joint_states":
            return ENCODER.joints(whole_arm.JOINTS, whole_arm.joints_at(stamp_ns), stamp_ns, BASE)
        hand = whole_arm.hand_at(stamp_ns)
        return ENCODER.pose(hand[:3, 3], stamp_ns, BASE, Rotation.from_matrix(hand[:3, :3]).as_quat())

    def _film(self, messages: dict[str, Any]) -> None:
        """Publish the pictures of both cameras; the one beside the arm does not see it, and nothing changes there."""
        period_ns = round(1e9 / CAMERA_HZ)
        stamp_ns = time.time_ns() + period_ns
        while True:
            wrist = synthetic_camera(base_from_camera=whole_arm.wrist_at(stamp_ns))
            messages["depth_1"].data = ENCODER.data(whole_arm.depth_values(wrist))
            time.sleep(max(0.0, (stamp_ns - time.time_ns()) * 1e-9))
            for name in CAMERAS:
                messages[name].header.stamp = ENCODER.time(stamp_ns)
                self._out[name].publish(messages[name])
            stamp_ns += period_ns * (1 + max(0, time.time_ns() - stamp_ns) // period_ns)

    def _publish(self, names: tuple[str, ...], rate_hz: float) -> None:
        stamp_ns = time.time_ns()
        for name in names:
            message = self._whole_arm_at(name, stamp_ns) or next(self._streams[name])
            message.header.stamp = ENCODER.time(stamp_ns)
            if name == "ee_pose" and not self._whole_arm:
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


def synthetic_camera(
    width: int = WIDTH, height: int = HEIGHT, base_from_camera: np.ndarray | None = None
) -> CameraModel:
    """The camera; without a pose in its own frame."""
    focal, pose = FOCAL * width / WIDTH, np.eye(4) if base_from_camera is None else base_from_camera
    return CameraModel(width, height, focal, focal, width / 2, height / 2, pose)


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
    image, points, image/compressed; joint_states, and of a camera on the hand image_1, image_1_camera_info, depth_1,
    depth_1_camera_info.
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
        "joint_states": lambda: ENCODER.joints(whole_arm.JOINTS, whole_arm.joints_at(0), 0, BASE),
        "image_1": lambda: ENCODER.image(pixels[::-1], "rgb8", 0, whole_arm.WRIST),
        "depth_1": lambda: ENCODER.image(millimetres, "16UC1", 0, whole_arm.WRIST),
        "image_1_camera_info": lambda: ENCODER.camera_info(camera, 0, whole_arm.WRIST),
        "depth_1_camera_info": lambda: ENCODER.camera_info(camera, 0, whole_arm.WRIST),
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
