"""Messages to arrays and back. What does not make sense is refused, and the message says what was wrong.

cv_bridge and sensor_msgs_py do the unpacking where they are installed. They ignore row padding and byte order (some
releases of them), so messages with either go through ``message_fallback``, as all do where they are not installed.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from PIL import Image as Picture
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, PointCloud2, PointField
from std_msgs.msg import Header

from ..types import CameraModel
from . import message_fallback
from .message_fallback import LAYOUTS, POINT_TYPES

_installed_imgmsg_to_cv2: Callable[..., np.ndarray] | None = None
_installed_read_points: Callable[..., np.ndarray] | None = None
try:
    from cv_bridge import CvBridge

    _installed_imgmsg_to_cv2 = CvBridge().imgmsg_to_cv2
except Exception:  # a cv_bridge that was built against another numpy fails with more than ImportError
    pass
with contextlib.suppress(ImportError):
    from sensor_msgs_py import point_cloud2

    _installed_read_points = point_cloud2.read_points

COLOUR_ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8", "mono8")
DEPTH_ENCODINGS = ("32FC1", "16UC1")
MILLIMETRE = np.float32(0.001)  # REP-118: 16UC1 depth is in millimetres
ASPECT_TOLERANCE = 0.01
GRIPPER_SLACK = 0.1  # how far beyond 0..1 an opening may lie by calibration


class ConversionError(ValueError):
    """A message that cannot be used; the text says what was wrong and what was expected."""


def stamp_ns(header: Header) -> int:
    """Nanoseconds of a header's stamp."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def time_message(time_ns: int) -> Time:
    """Nanoseconds as the stamp of a header."""
    return Time(sec=time_ns // 1_000_000_000, nanosec=time_ns % 1_000_000_000)


def image_to_rgb(message: Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB; may share memory with the message.

    Raises:
        ConversionError: encoding other than ``COLOUR_ENCODINGS``, or size, step and length do not agree.
    """
    return _unpack_image(message, COLOUR_ENCODINGS, "rgb8", "colour image")


def depth_to_metres(message: Image) -> np.ndarray:
    """(H, W) float32 metres along the optical axis, 0 where there is no reading.

    Raises:
        ConversionError: encoding other than ``DEPTH_ENCODINGS``, or size, step and length do not agree.
    """
    depth = _unpack_image(message, DEPTH_ENCODINGS, "passthrough", "depth image")
    if message.encoding == "16UC1":
        return depth.astype(np.float32) * MILLIMETRE
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def compressed_to_rgb(message: CompressedImage) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a JPEG or PNG.

    Raises:
        ConversionError: another format, a depth picture, or data that cannot be decoded.
    """
    name = message.format
    if "compressedDepth" in name or "16UC1" in name or "32FC1" in name:
        raise ConversionError(f"compressed image has format {name!r}, which is depth: a colour image is expected")
    try:
        with Picture.open(io.BytesIO(bytes(message.data)), formats=("JPEG", "PNG")) as picture:
            if picture.mode not in ("RGB", "RGBA", "L", "LA", "P"):
                raise ConversionError(f"compressed image has pixels of mode {picture.mode}, 8 bits a channel expected")
            return np.asarray(picture.convert("RGB"))
    except ConversionError:
        raise
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError) as error:
        raise ConversionError(
            f"compressed image of format {name!r} with {len(message.data)} bytes is no readable JPEG or PNG: {error}"
        ) from error


def cloud_to_points(
    message: PointCloud2, base_frame: str, camera_frame: str, base_from_camera: np.ndarray
) -> np.ndarray:
    """(N, 3) float32 finite points in the base frame, metres.

    Args:
        base_frame: a cloud in this frame is taken as it is.
        camera_frame: a cloud in this frame is moved by ``base_from_camera`` (4, 4).

    Raises:
        ConversionError: another frame, fields x, y, z missing or not floats, or size, steps and length disagree.
    """
    frame = message.header.frame_id
    if frame not in (base_frame, camera_frame):
        raise ConversionError(
            f"point cloud is in frame {frame!r}: publish it in {base_frame!r} or {camera_frame!r}, or set the "
            "parameters base_frame, camera_frame and extrinsics.* to match"
        )
    xyz = _unpack_cloud(message)
    xyz = xyz[np.isfinite(xyz).all(1)]
    if frame == base_frame:
        return xyz
    rotation, translation = base_from_camera[:3, :3].astype(np.float32), base_from_camera[:3, 3].astype(np.float32)
    return xyz @ rotation.T + translation


def camera_model(message: CameraInfo, width: int, height: int, base_from_camera: np.ndarray) -> CameraModel:
    """Model of the camera for its image of ``width`` x ``height`` pixels, rescaled when the info is for another size.

    The image must be rectified or free of distortion: with distortion coefficients the rectified intrinsics (P) are
    taken, without them K. CameraInfo puts the centre of a pixel at whole numbers, CameraModel at + 0.5.

    Raises:
        ConversionError: no intrinsics, or the two sizes differ in shape (a cropped image).
    """
    if message.width < 1 or message.height < 1:
        raise ConversionError(f"camera info has size {message.width} x {message.height}: the camera is not calibrated")
    p = message.p
    if any(abs(d) > 1e-9 for d in message.d) and p[0] > 0 and p[5] > 0:
        fx, fy, cx, cy = p[0], p[5], p[2], p[6]
    else:
        fx, fy, cx, cy = message.k[0], message.k[4], message.k[2], message.k[5]
    roi, size = message.roi, (message.width, message.height)
    if roi.width and roi.height and (roi.width, roi.height) != size:
        cx, cy, size = cx - roi.x_offset, cy - roi.y_offset, (roi.width, roi.height)
    if abs(width / height * size[1] / size[0] - 1) > ASPECT_TOLERANCE:
        raise ConversionError(
            f"image is {width} x {height}, camera info is for {size[0]} x {size[1]}: sizes of another shape cannot be "
            "matched by rescaling; publish the camera info of this image"
        )
    try:
        model = CameraModel(size[0], size[1], fx, fy, cx + 0.5, cy + 0.5, base_from_camera)
    except ValueError as error:
        raise ConversionError(f"camera info: {error}; the camera is not calibrated") from error
    return model if size == (width, height) else model.resized(width, height)


def pose_to_position(message: PoseStamped, base_frame: str) -> np.ndarray:
    """(3,) float32 metres. Raises ConversionError when it is in another frame or not finite."""
    if message.header.frame_id != base_frame:
        raise ConversionError(
            f"end-effector pose is in frame {message.header.frame_id!r}: publish it in {base_frame!r} or set base_frame"
        )
    p = message.pose.position
    position = np.array([p.x, p.y, p.z], np.float32)
    if not np.isfinite(position).all():
        raise ConversionError(f"end-effector position is not finite: {position.tolist()}")
    return position


def gripper_opening(message: JointState) -> float:
    """Opening, 0 closed to 1 open. Raises ConversionError without a position or far outside that range."""
    if len(message.position) < 1:
        raise ConversionError("gripper state has no position: position[0] must be the opening, 0 to 1")
    opening = float(message.position[0])
    if not -GRIPPER_SLACK <= opening <= 1 + GRIPPER_SLACK:
        raise ConversionError(f"gripper opening is {opening}: position[0] must be scaled to 0 (closed) to 1 (open)")
    return opening


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


def _unpack_image(message: Image, encodings: tuple[str, ...], desired: str, what: str) -> np.ndarray:
    if message.encoding not in encodings:
        raise ConversionError(f"{what} has encoding {message.encoding!r}: {', '.join(encodings)} can be used")
    kind, channels, _ = LAYOUTS[message.encoding]
    row = message.width * channels * np.dtype(kind).itemsize
    if message.width < 1 or message.height < 1:
        raise ConversionError(f"{what} has size {message.width} x {message.height}")
    if message.step < row:
        raise ConversionError(f"{what} has step {message.step}, a row of {message.width} pixels takes {row} bytes")
    if len(message.data) != message.step * message.height:
        raise ConversionError(
            f"{what} has {len(message.data)} bytes, {message.height} rows of step {message.step} make "
            f"{message.step * message.height}"
        )
    plain = message.step == row and bool(message.is_bigendian) == (sys.byteorder == "big")
    if _installed_imgmsg_to_cv2 is not None and plain:
        return np.ascontiguousarray(_installed_imgmsg_to_cv2(message, desired_encoding=desired))
    return message_fallback.imgmsg_to_cv2(message, desired)


def _unpack_cloud(message: PointCloud2) -> np.ndarray:
    """(height * width, 3) float32, as they are."""
    fields: dict[str, Any] = {field.name: field for field in message.fields}
    missing = [name for name in "xyz" if name not in fields]
    if missing:
        raise ConversionError(f"point cloud has fields {', '.join(fields) or '(none)'}: {', '.join(missing)} missing")
    end = 0
    for name in "xyz":
        if fields[name].datatype not in (PointField.FLOAT32, PointField.FLOAT64):
            raise ConversionError(f"point cloud field {name} has datatype {fields[name].datatype}: floats expected")
        end = max(end, fields[name].offset + np.dtype(POINT_TYPES[fields[name].datatype]).itemsize)
    width, height, step, row = message.width, message.height, message.point_step, message.row_step
    if step < end or row < width * step:
        raise ConversionError(
            f"point cloud has point_step {step} and row_step {row}: x, y, z need {end} bytes a point, "
            f"{width} points a row"
        )
    if len(message.data) != row * height:
        raise ConversionError(f"point cloud has {len(message.data)} bytes, {height} rows of {row} make {row * height}")
    if width * height == 0:
        return np.empty((0, 3), np.float32)
    packed = sum(np.dtype(POINT_TYPES.get(f.datatype, "V99")).itemsize * max(1, f.count) for f in message.fields)
    plain = row == width * step and packed == step and not message.is_bigendian and sys.byteorder == "little"
    read = _installed_read_points if _installed_read_points is not None and plain else message_fallback.read_points
    points = read(message, field_names=["x", "y", "z"])
    return np.stack([points[name] for name in "xyz"], 1, dtype=np.float32, casting="same_kind")
