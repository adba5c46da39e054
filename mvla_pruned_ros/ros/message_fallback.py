"""Stand-in for cv_bridge and sensor_msgs_py where they are not installed (the rclpy wheels lack both).

The one place where the package has a second way to do something; tests hold it to hand-written expectations and,
where they are installed, to the originals.
"""

from __future__ import annotations

import sys

import numpy as np
from sensor_msgs.msg import Image, PointCloud2, PointField

CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
DEPTH_TYPES = {"32FC1": "f4", "16UC1": "u2", "mono16": "u2"}
FIELD_TYPES = {
    PointField.INT8: "i1", PointField.UINT8: "u1", PointField.INT16: "i2", PointField.UINT16: "u2",
    PointField.INT32: "i4", PointField.UINT32: "u4", PointField.FLOAT32: "f4", PointField.FLOAT64: "f8",
}  # fmt: skip


def image_pixels(message: Image) -> np.ndarray:
    """(H, W) or (H, W, C) pixels as sent; rows may be padded (``step``), numbers of either byte order.

    Raises:
        ValueError: unknown encoding, or step or length that do not fit the size.
    """
    order = ">" if message.is_bigendian else "<"
    if message.encoding in CHANNELS:
        dtype, channels = np.dtype("u1"), CHANNELS[message.encoding]
    elif message.encoding in DEPTH_TYPES:
        dtype, channels = np.dtype(order + DEPTH_TYPES[message.encoding]), 1
    else:
        raise ValueError(f"encoding {message.encoding!r} is not one of {', '.join([*CHANNELS, *DEPTH_TYPES])}")
    row = message.width * channels * dtype.itemsize
    data = np.frombuffer(message.data, np.uint8)
    if message.width < 1 or message.height < 1 or message.step < row or len(data) != message.step * message.height:
        raise ValueError(
            f"{message.width} x {message.height} {message.encoding} needs rows of at least {row} bytes; step is "
            f"{message.step}, data has {len(data)} bytes"
        )
    rows = np.ascontiguousarray(data.reshape(message.height, message.step)[:, :row])
    pixels = rows.view(dtype).reshape(message.height, message.width, channels)
    pixels = pixels.astype(dtype.newbyteorder("="), copy=False)
    return pixels[..., 0] if channels == 1 else pixels


def cloud_xyz(message: PointCloud2) -> np.ndarray:
    """(N, 3) float32 of the fields x, y, z, wherever they lie in a point; order and NaNs kept.

    Raises:
        ValueError: fields missing, or steps or length that do not fit.
    """
    fields = {f.name: f for f in message.fields}
    missing = [name for name in "xyz" if name not in fields]
    if missing:
        raise ValueError(f"cloud has no field {', '.join(missing)}; it has {', '.join(fields) or 'none'}")
    order = ">" if message.is_bigendian else "<"
    formats = []
    for name in "xyz":
        if fields[name].datatype not in FIELD_TYPES:
            raise ValueError(f"field {name} has unknown datatype {fields[name].datatype}")
        formats.append(np.dtype(order + FIELD_TYPES[fields[name].datatype]))
        if fields[name].offset + formats[-1].itemsize > message.point_step:
            raise ValueError(f"field {name} at offset {fields[name].offset} exceeds point_step {message.point_step}")
    data = np.frombuffer(message.data, np.uint8)
    if message.row_step < message.width * message.point_step or len(data) != message.row_step * message.height:
        raise ValueError(
            f"{message.width} x {message.height} points of {message.point_step} bytes do not fit row_step "
            f"{message.row_step} and {len(data)} bytes of data"
        )
    points = data.reshape(message.height, message.row_step)[:, : message.width * message.point_step]
    points = np.ascontiguousarray(points).reshape(-1, message.point_step)
    columns = []
    for name, dtype in zip("xyz", formats):
        start = fields[name].offset
        columns.append(np.ascontiguousarray(points[:, start : start + dtype.itemsize]).view(dtype)[:, 0])
    return np.stack(columns, 1).astype(np.float32)


assert sys.byteorder == "little"  # as every computer ROS 2 supports
