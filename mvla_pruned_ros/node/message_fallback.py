"""Stand-in for the few functions of cv_bridge and sensor_msgs_py that are used here, with the same results.

The ``ros-*`` wheels bring neither. What reads needs no message class and is in ``message_bytes``.
"""

from __future__ import annotations

from array import array

import numpy as np
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

from ..messages.layouts import LAYOUTS, POINT_TYPES, imgmsg_to_cv2, read_points

__all__ = ["LAYOUTS", "POINT_TYPES", "byte_array", "create_cloud", "cv2_to_imgmsg", "imgmsg_to_cv2", "read_points"]


def byte_array(data: np.ndarray) -> array:
    """The array's bytes in the only form that message fields take without a slow check of every element."""
    out = array("B")
    out.frombytes(np.ascontiguousarray(data).data.cast("B"))
    return out


def cv2_to_imgmsg(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """(H, W, C) or (H, W) array as an image message without padding."""
    message = Image(header=header, encoding=encoding, is_bigendian=0)
    message.height, message.width = pixels.shape[:2]
    message.step = pixels.nbytes // message.height
    message.data = byte_array(pixels)
    return message


def create_cloud(header: Header, fields: list[PointField], points: np.ndarray) -> PointCloud2:
    """(N, F) values as a cloud of F fields, all of the type of the first."""
    values = np.asarray(points, POINT_TYPES[fields[0].datatype]).reshape(-1, len(fields))
    cloud = PointCloud2(header=header, fields=fields, height=1, width=len(values), is_bigendian=False, is_dense=True)
    cloud.point_step = values.itemsize * len(fields)
    cloud.row_step = cloud.point_step * len(values)
    cloud.data = byte_array(values)
    return cloud
