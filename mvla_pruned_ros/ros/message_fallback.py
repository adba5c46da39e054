"""Stand-in for the few functions of cv_bridge and sensor_msgs_py that are used here, with the same results.

The ``ros-*`` wheels bring neither. Beyond the originals it honours row padding and byte order, so messages that have
either always come here (see ``conversions``).
"""

from __future__ import annotations

from array import array

import numpy as np
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

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
POINT_TYPES = {
    PointField.INT8: "i1", PointField.UINT8: "u1", PointField.INT16: "i2", PointField.UINT16: "u2",
    PointField.INT32: "i4", PointField.UINT32: "u4", PointField.FLOAT32: "f4", PointField.FLOAT64: "f8",
}  # fmt: skip


def byte_array(data: np.ndarray) -> array:
    """The array's bytes in the only form that message fields take without a slow check of every element."""
    out = array("B")
    out.frombytes(np.ascontiguousarray(data).data.cast("B"))
    return out


def imgmsg_to_cv2(message: Image, desired_encoding: str = "passthrough") -> np.ndarray:
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
        return np.ascontiguousarray(pixels if to_rgb == [0, 1, 2] and channels == 3 else pixels[..., to_rgb])
    pixels = pixels.astype(dtype.newbyteorder("="), copy=False)
    return pixels[..., 0] if channels == 1 else pixels


def cv2_to_imgmsg(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """(H, W, C) or (H, W) array as an image message without padding."""
    message = Image(header=header, encoding=encoding, is_bigendian=0)
    message.height, message.width = pixels.shape[:2]
    message.step = pixels.nbytes // message.height
    message.data = byte_array(pixels)
    return message


def read_points(cloud: PointCloud2, field_names: list[str]) -> np.ndarray:
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


def create_cloud(header: Header, fields: list[PointField], points: np.ndarray) -> PointCloud2:
    """(N, F) values as a cloud of F fields, all of the type of the first."""
    values = np.asarray(points, POINT_TYPES[fields[0].datatype]).reshape(-1, len(fields))
    cloud = PointCloud2(header=header, fields=fields, height=1, width=len(values), is_bigendian=False, is_dense=True)
    cloud.point_step = values.itemsize * len(fields)
    cloud.row_step = cloud.point_step * len(values)
    cloud.data = byte_array(values)
    return cloud
