"""Pixels and points out of the bytes of messages, as cv_bridge and sensor_msgs_py read them, without either.

Beyond the originals row padding and byte order are honoured. Any object with the fields of the message will do.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class ConversionError(ValueError):
    """A message that cannot be used; the text says what was wrong and what was expected."""


# encoding: element type, channels, order that makes RGB of them
LAYOUTS: dict[str, tuple[str, int, list[int] | None]] = {
    "rgb8": ("u1", 3, [0, 1, 2]),
    "bgr8": ("u1", 3, [2, 1, 0]),
    "rgba8": ("u1", 4, [0, 1, 2]),
    "bgra8": ("u1", 4, [2, 1, 0]),
    "mono8": ("u1", 1, [0, 0, 0]),
    "16UC1": ("u2", 1, None),
    "32FC1": ("f4", 1, None),
}
FLOAT32, FLOAT64 = 7, 8  # PointField.datatype
POINT_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}  # by PointField.datatype


def imgmsg_to_cv2(message: Any, desired_encoding: str = "passthrough") -> np.ndarray:
    """Pixels of an image whose size, step and length agree; ``desired_encoding`` rgb8 or passthrough.

    Returns:
        (H, W, C), or (H, W) with one channel, in native byte order; may share memory with the message.
    """
    kind, channels, to_rgb = LAYOUTS[message.encoding]
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    pixels = np.ndarray(
        (message.height, message.width, channels),
        dtype,
        np.frombuffer(message.data, np.uint8),
        strides=(message.step, dtype.itemsize * channels, dtype.itemsize),
    )
    if desired_encoding == "rgb8":
        if to_rgb is None or (to_rgb == [0, 1, 2] and channels == 3):
            return np.ascontiguousarray(pixels)
        rgb = np.empty((*pixels.shape[:2], 3), np.uint8)
        for plane, channel in enumerate(to_rgb):  # one after the other: an eighth of the time of pixels[..., to_rgb]
            rgb[..., plane] = pixels[..., channel]
        return rgb
    pixels = pixels.astype(dtype.newbyteorder("="), copy=False)
    return pixels[..., 0] if channels == 1 else pixels


def read_points(cloud: Any, field_names: list[str]) -> np.ndarray:
    """Structured array of (height * width,) points with the fields asked for, in the cloud's byte order."""
    fields = {field.name: field for field in cloud.fields}
    order = ">" if cloud.is_bigendian else "<"
    dtype = np.dtype(
        {
            "names": field_names,
            "formats": [order + POINT_TYPES[fields[name].datatype] for name in field_names],
            "offsets": [fields[name].offset for name in field_names],
            "itemsize": cloud.point_step,
        }
    )
    buffer = np.frombuffer(cloud.data, np.uint8)
    rows = np.ndarray((cloud.height, cloud.width), dtype, buffer, strides=(cloud.row_step, cloud.point_step))
    return rows.reshape(-1)
