"""Arrays to messages, the reverse of ``decode``.

The message classes are handed in: those of rclpy (``node/ros_messages``) or those of rosbags (``bags/writer``). Frames
and stamps (nanoseconds) go into the headers.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image as Picture

from ..types import CameraModel
from .layouts import FLOAT32

NO_TURN = (0.0, 0.0, 0.0, 1.0)


class Encoder:
    """Makes messages of one family of classes."""

    def __init__(self, message_class: Callable[[str], Any], sequence: Callable[[np.ndarray], Any]) -> None:
        """
        Args:
            message_class: the class of ``package/msg/Name``; its fields are given by name, and all of them are.
            sequence: a one-dimensional array as a field of numbers takes it.
        """
        self._class, self._sequence = message_class, sequence

    def make(self, kind: str, **fields: Any) -> Any:
        """A message of ``package/msg/Name``."""
        return self._class(kind)(**fields)

    def time(self, stamp_ns: int) -> Any:
        sec, nanosec = divmod(stamp_ns, 1_000_000_000)
        return self.make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)

    def header(self, stamp_ns: int, frame: str) -> Any:
        return self.make("std_msgs/msg/Header", stamp=self.time(stamp_ns), frame_id=frame)

    def image(self, pixels: np.ndarray, encoding: str, stamp_ns: int, frame: str) -> Any:
        """(H, W, C) or (H, W) pixels, without padding."""
        height, width = pixels.shape[:2]
        return self.make(
            "sensor_msgs/msg/Image", header=self.header(stamp_ns, frame), height=height, width=width,
            encoding=encoding, is_bigendian=0, step=pixels.nbytes // height, data=self.data(pixels),
        )  # fmt: skip

    def jpeg(self, pixels: np.ndarray, stamp_ns: int, frame: str, quality: int = 85) -> Any:
        """(H, W, 3) uint8 RGB, compressed."""
        out = io.BytesIO()
        Picture.fromarray(pixels).save(out, "JPEG", quality=quality)
        return self.compressed(out.getvalue(), "jpeg", stamp_ns, frame)

    def compressed(self, data: bytes, name: str, stamp_ns: int, frame: str) -> Any:
        """CompressedImage of a file's bytes. name: its format, as ``png``."""
        values, header = self.data(np.frombuffer(data, np.uint8)), self.header(stamp_ns, frame)
        return self.make("sensor_msgs/msg/CompressedImage", header=header, format=name, data=values)

    def depth(self, depth: np.ndarray, stamp_ns: int, frame: str) -> Any:
        """(H, W) float32 metres, 0 where there is no reading; REP-118 wants NaN there."""
        return self.image(np.where(depth > 0, depth, np.float32(np.nan)), "32FC1", stamp_ns, frame)

    def camera_info(self, camera: CameraModel, stamp_ns: int, frame: str) -> Any:
        """Without distortion. CameraInfo puts the centre of a pixel at whole numbers, CameraModel at + 0.5."""
        k = np.array([camera.fx, 0, camera.cx - 0.5, 0, camera.fy, camera.cy - 0.5, 0, 0, 1], np.float64)
        roi = self.make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
        return self.make(
            "sensor_msgs/msg/CameraInfo", header=self.header(stamp_ns, frame), height=camera.height,
            width=camera.width, distortion_model="plumb_bob", d=self._sequence(np.zeros(5)), k=k, r=np.eye(3).ravel(),
            p=np.insert(k, (3, 6, 9), 0.0), binning_x=0, binning_y=0, roi=roi,
        )  # fmt: skip

    def pose(
        self, position: Sequence[float] | np.ndarray, stamp_ns: int, frame: str,
        orientation: Sequence[float] | np.ndarray = NO_TURN,
    ) -> Any:  # fmt: skip
        """PoseStamped at (3,) metres, turned by a quaternion x y z w."""
        point = self._named("geometry_msgs/msg/Point", "xyz", position)
        turn = self._named("geometry_msgs/msg/Quaternion", "xyzw", orientation)
        pose = self.make("geometry_msgs/msg/Pose", position=point, orientation=turn)
        return self.make("geometry_msgs/msg/PoseStamped", header=self.header(stamp_ns, frame), pose=pose)

    def twist(self, velocity: Sequence[float] | np.ndarray, stamp_ns: int, frame: str) -> Any:
        """TwistStamped of (3,) m/s, or (6,) with rad/s."""
        values = [*velocity, 0.0, 0.0, 0.0][:6]
        linear, angular = (self._named("geometry_msgs/msg/Vector3", "xyz", values[i : i + 3]) for i in (0, 3))
        twist = self.make("geometry_msgs/msg/Twist", linear=linear, angular=angular)
        return self.make("geometry_msgs/msg/TwistStamped", header=self.header(stamp_ns, frame), twist=twist)

    def gripper(self, opening: float, stamp_ns: int, frame: str) -> Any:
        """JointState of an opening, 0 closed to 1 open."""
        return self.joints(["gripper"], [opening], stamp_ns, frame)

    def joints(self, names: Sequence[str], positions: Sequence[float] | np.ndarray, stamp_ns: int, frame: str) -> Any:
        """JointState of positions in rad or m."""
        none, position = self._sequence(np.zeros(0)), self._sequence(np.asarray(positions, float))
        return self.make(
            "sensor_msgs/msg/JointState", header=self.header(stamp_ns, frame), name=list(names), position=position,
            velocity=none, effort=none,
        )  # fmt: skip

    def trajectory(self, joints: Sequence[str], positions: Sequence[float] | np.ndarray, duration_s: float) -> Any:
        """JointTrajectory of one point, to be reached after ``duration_s``.

        It has no end velocity: if nothing follows, the arm stops there. The stamp is zero, which means at once: one of
        another computer's clock may lie in the past and would be refused.
        """
        sec, nanosec = divmod(round(duration_s * 1e9), 1_000_000_000)
        none = self._sequence(np.zeros(0))
        point = self.make(
            "trajectory_msgs/msg/JointTrajectoryPoint", positions=self._sequence(np.asarray(positions, float)),
            velocities=none, accelerations=none, effort=none,
            time_from_start=self.make("builtin_interfaces/msg/Duration", sec=sec, nanosec=nanosec),
        )  # fmt: skip
        return self.make(
            "trajectory_msgs/msg/JointTrajectory", header=self.header(0, ""), joint_names=list(joints), points=[point]
        )

    def numbers(self, label: str, values: Sequence[float] | np.ndarray) -> Any:
        """Float64MultiArray of one dimension; ``label`` says what its values are."""
        kind, size = "std_msgs/msg/MultiArrayDimension", len(values)
        layout = self.make(
            "std_msgs/msg/MultiArrayLayout", dim=[self.make(kind, label=label, size=size, stride=size)], data_offset=0
        )
        data = self._sequence(np.asarray(values, float))
        return self.make("std_msgs/msg/Float64MultiArray", layout=layout, data=data)

    def cloud(self, names: Sequence[str], values: np.ndarray, stamp_ns: int, frame: str) -> Any:
        """PointCloud2 with a float32 field for each name. values: (N, F), or (H, W, F) of an organised cloud."""
        values = np.asarray(values, "<f4")
        height, width = values.shape[:2] if values.ndim == 3 else (1, len(values))
        kind, step = "sensor_msgs/msg/PointField", 4 * len(names)
        fields = [self.make(kind, name=n, offset=4 * i, datatype=FLOAT32, count=1) for i, n in enumerate(names)]
        return self.make(
            "sensor_msgs/msg/PointCloud2", header=self.header(stamp_ns, frame), height=height, width=width,
            fields=fields, is_bigendian=False, point_step=step, row_step=step * width, data=self.data(values),
            is_dense=bool(np.isfinite(values).all()),
        )  # fmt: skip

    def text(self, data: str) -> Any:
        return self.make("std_msgs/msg/String", data=data)

    def number(self, data: float) -> Any:
        return self.make("std_msgs/msg/Float64", data=float(data))

    def data(self, values: np.ndarray) -> Any:
        """The bytes of an array, as the field ``data`` takes them."""
        return self._sequence(np.frombuffer(np.ascontiguousarray(values).data.cast("B"), np.uint8))

    def _named(self, kind: str, names: str, values: Sequence[float] | np.ndarray) -> Any:
        return self.make(kind, **{name: float(value) for name, value in zip(names, values)})
