"""Messages to arrays (see ``messages``) and back, with cv_bridge and sensor_msgs_py where they are installed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

from ..messages import decode as messages
from ..messages.decode import (
    ConversionError,
    camera_model,
    cloud_to_points,
    compressed_to_rgb,
    depth_to_metres,
    gripper_opening,
    image_to_rgb,
    pose_to_position,
    stamp_ns,
)
from . import message_fallback

__all__ = [
    "ConversionError",
    "camera_model",
    "cloud_to_points",
    "compressed_to_rgb",
    "depth_to_metres",
    "gripper_opening",
    "image_to_rgb",
    "kept_points_cloud",
    "pose_to_position",
    "rgb_to_image",
    "stamp_ns",
    "time_message",
]

_imgmsg_to_cv2: Callable[..., np.ndarray] | None = None
_read_points: Callable[..., np.ndarray] | None = None
try:
    from cv_bridge import CvBridge

    _imgmsg_to_cv2 = CvBridge().imgmsg_to_cv2
except Exception:  # a cv_bridge that was built against another numpy fails with more than ImportError
    pass
with contextlib.suppress(ImportError):
    from sensor_msgs_py import point_cloud2

    _read_points = point_cloud2.read_points
messages.use_installed(_imgmsg_to_cv2, _read_points)


def time_message(time_ns: int) -> Time:
    """Nanoseconds as the stamp of a header."""
    return Time(sec=time_ns // 1_000_000_000, nanosec=time_ns % 1_000_000_000)


def rgb_to_image(pixels: np.ndarray, header: Header) -> Image:
    """(H, W, 3) uint8 RGB as an ``rgb8`` message."""
    return message_fallback.cv2_to_imgmsg(pixels, "rgb8", header)


def kept_points_cloud(points: np.ndarray, salience: np.ndarray, sets: np.ndarray, header: Header) -> PointCloud2:
    """Cloud with float32 fields x, y, z, salience, set. Args: points: (N, 3). salience, sets: (N,)."""
    fields = [
        PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
        for i, name in enumerate(("x", "y", "z", "salience", "set"))
    ]
    return message_fallback.create_cloud(header, fields, np.column_stack([points, salience, sets]))
