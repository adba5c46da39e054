"""Bags written without ROS: messages made from arrays, and an mcap that `ros2 bag` and Foxglove read."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import get_typestore

from ..types import CameraModel
from .reader import STORE

BAG_VERSION = 9
FLOAT32 = 7  # PointField.FLOAT32


class Messages:
    """Makes messages of the fields' types. Frames and stamps (nanoseconds) go into their headers."""

    def __init__(self) -> None:
        self.store = get_typestore(STORE)

    def make(self, kind: str, *values: Any) -> Any:
        """A message of ``package/msg/Name`` from its fields in order."""
        return self.store.types[kind](*values)

    def header(self, stamp_ns: int, frame: str) -> Any:
        time = self.make("builtin_interfaces/msg/Time", *divmod(stamp_ns, 1_000_000_000))
        return self.make("std_msgs/msg/Header", time, frame)

    def image(self, pixels: np.ndarray, encoding: str, stamp_ns: int, frame: str) -> Any:
        """(H, W, C) or (H, W) pixels, without padding."""
        data = np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8)
        height, width = pixels.shape[:2]
        head = self.header(stamp_ns, frame)
        return self.make("sensor_msgs/msg/Image", head, height, width, encoding, 0, len(data) // height, data)

    def jpeg(self, pixels: np.ndarray, stamp_ns: int, frame: str, quality: int = 85) -> Any:
        """(H, W, 3) uint8 RGB, compressed."""
        out = io.BytesIO()
        Picture.fromarray(pixels).save(out, "JPEG", quality=quality)
        data = np.frombuffer(out.getvalue(), np.uint8)
        return self.make("sensor_msgs/msg/CompressedImage", self.header(stamp_ns, frame), "jpeg", data)

    def camera_info(self, camera: CameraModel, stamp_ns: int, frame: str) -> Any:
        """Without distortion. CameraInfo puts the centre of a pixel at whole numbers, CameraModel at + 0.5."""
        k = np.array([camera.fx, 0, camera.cx - 0.5, 0, camera.fy, camera.cy - 0.5, 0, 0, 1], np.float64)
        roi = self.make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        return self.make(
            "sensor_msgs/msg/CameraInfo", self.header(stamp_ns, frame), camera.height, camera.width, "plumb_bob",
            np.zeros(5), k, np.eye(3).ravel(), np.insert(k, (3, 6, 9), 0.0), 0, 0, roi,
        )  # fmt: skip

    def pose(self, position: np.ndarray, stamp_ns: int, frame: str) -> Any:
        """PoseStamped at (3,) metres, not turned."""
        point = self.make("geometry_msgs/msg/Point", *(float(x) for x in position))
        turn = self.make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0)
        pose = self.make("geometry_msgs/msg/Pose", point, turn)
        return self.make("geometry_msgs/msg/PoseStamped", self.header(stamp_ns, frame), pose)

    def gripper(self, opening: float, stamp_ns: int, frame: str) -> Any:
        """JointState of an opening, 0 closed to 1 open."""
        none = np.zeros(0)
        head = self.header(stamp_ns, frame)
        return self.make("sensor_msgs/msg/JointState", head, ["gripper"], np.array([float(opening)]), none, none)

    def twist(self, velocity: np.ndarray, stamp_ns: int, frame: str) -> Any:
        """TwistStamped of (3,) m/s."""
        linear, angular = (
            self.make("geometry_msgs/msg/Vector3", *(float(x) for x in values)) for values in (velocity, np.zeros(3))
        )
        twist = self.make("geometry_msgs/msg/Twist", linear, angular)
        return self.make("geometry_msgs/msg/TwistStamped", self.header(stamp_ns, frame), twist)

    def cloud(self, columns: Mapping[str, np.ndarray], stamp_ns: int, frame: str) -> Any:
        """PointCloud2 of float32 fields, each (N,)."""
        values = np.column_stack(list(columns.values())).astype("<f4")
        fields = [self.make("sensor_msgs/msg/PointField", n, 4 * i, FLOAT32, 1) for i, n in enumerate(columns)]
        step, data = 4 * len(fields), np.frombuffer(values.tobytes(), np.uint8)
        return self.make(
            "sensor_msgs/msg/PointCloud2", self.header(stamp_ns, frame), 1, len(values), fields, False, step,
            step * len(values), data, True,
        )  # fmt: skip

    def text(self, data: str) -> Any:
        return self.make("std_msgs/msg/String", data)

    def number(self, data: float) -> Any:
        return self.make("std_msgs/msg/Float64", float(data))


class BagWriter:
    """Writes a bag of mcap. Use as a context manager.

    Attributes:
        messages: makes them. counts: messages written, by topic.
    """

    def __init__(self, folder: Path, topics: Mapping[str, str]) -> None:
        """
        Args:
            topics: topic -> type as ``package/msg/Name``.

        Raises:
            ValueError: ``folder`` exists already.
        """
        try:
            self._writer = Writer(folder, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        except WriterError as error:
            raise ValueError(f"cannot write a bag: {error} Choose another folder or remove it") from None
        self.messages = Messages()
        self.counts = dict.fromkeys(topics, 0)
        self._connections = {
            topic: self._writer.add_connection(topic, kind, typestore=self.messages.store)
            for topic, kind in topics.items()
        }

    def write(self, topic: str, time_ns: int, message: Any) -> None:
        """One message, recorded at ``time_ns``."""
        connection = self._connections[topic]
        self._writer.write(connection, time_ns, self.messages.store.serialize_cdr(message, connection.msgtype))
        self.counts[topic] += 1

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()
