"""Between ROS messages and arrays: through cv_bridge and sensor_msgs_py where they are, else through our stand-in."""

from __future__ import annotations

import io
from array import array

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, PointCloud2, PointField
from std_msgs.msg import Header

from ..types import CameraModel
from . import message_fallback

try:
    from cv_bridge import CvBridge

    _bridge = CvBridge()
except ImportError:
    _bridge = None
try:
    from sensor_msgs_py import point_cloud2
except ImportError:
    point_cloud2 = None


class ConversionError(ValueError):
    """A message does not say what its type promises; the text names what is wrong."""


def stamp_ns(header: Header) -> int:
    """Header time in nanoseconds."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def time_message(time_ns: int) -> Time:
    return Time(sec=time_ns // 1_000_000_000, nanosec=time_ns % 1_000_000_000)


def _pixels(message: Image) -> np.ndarray:
    # Our check comes first either way: cv_bridge reads past a short buffer on some versions.
    try:
        pixels = message_fallback.image_pixels(message)
    except ValueError as error:
        raise ConversionError(str(error)) from None
    return pixels if _bridge is None else _bridge.imgmsg_to_cv2(message, "passthrough")


def image_to_rgb(message: Image | CompressedImage) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a raw (rgb8, bgr8, rgba8, bgra8, mono8) or compressed (jpeg, png) image.

    Raises:
        ConversionError: another encoding, or data that does not fit.
    """
    if isinstance(message, CompressedImage):
        try:
            with PillowImage.open(io.BytesIO(bytes(message.data)), formats=["JPEG", "PNG"]) as picture:
                return np.asarray(picture.convert("RGB"))
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, PillowImage.DecompressionBombError) as error:
            raise ConversionError(f"compressed image ({message.format!r}) cannot be read: {error}") from None
    if message.encoding not in message_fallback.CHANNELS:
        raise ConversionError(
            f"image encoding {message.encoding!r} is not a colour image: use {', '.join(message_fallback.CHANNELS)}"
        )
    pixels = _pixels(message)
    if message.encoding == "mono8":
        return np.repeat(pixels[..., None], 3, 2)
    pixels = pixels[..., :3]
    return np.ascontiguousarray(pixels if message.encoding.startswith("rgb") else pixels[..., ::-1])


def depth_to_metres(message: Image) -> np.ndarray:
    """(H, W) float32 metres, 0 where there is no reading (REP-118: 32FC1 metres, 16UC1 millimetres).

    Raises:
        ConversionError: another encoding, or data that does not fit.
    """
    if message.encoding not in ("32FC1", "16UC1", "mono16"):
        raise ConversionError(f"depth encoding {message.encoding!r} is not 32FC1 (metres) or 16UC1 (millimetres)")
    pixels = _pixels(message)
    if message.encoding == "32FC1":
        return np.where(np.isfinite(pixels) & (pixels > 0), pixels, np.float32(0)).astype(np.float32)
    return pixels.astype(np.float32) * np.float32(0.001)


def cloud_to_points(message: PointCloud2) -> np.ndarray:
    """(N, 3) float32 finite points in the frame of the message.

    Raises:
        ConversionError: fields missing, or data that does not fit.
    """
    try:
        points = message_fallback.cloud_xyz(message)
    except ValueError as error:
        raise ConversionError(str(error)) from None
    if point_cloud2 is not None and not message.is_bigendian:
        read = point_cloud2.read_points(message, ("x", "y", "z"))
        points = np.stack([np.ravel(read[name]) for name in "xyz"], 1).astype(np.float32)
    return points[np.isfinite(points).all(1)]


def camera_info_to_model(message: CameraInfo, base_from_camera: np.ndarray) -> CameraModel:
    """Intrinsics as a model. CameraInfo puts the centre of a pixel at whole numbers, CameraModel at + 0.5.

    Raises:
        ConversionError: an uncalibrated or absurd camera.
    """
    k = np.asarray(message.k, np.float64)
    try:
        return CameraModel(message.width, message.height, k[0], k[4], k[2] + 0.5, k[5] + 0.5, base_from_camera)
    except ValueError as error:
        raise ConversionError(f"camera_info is not that of a calibrated camera: {error}") from None


def proprio_of(pose: PoseStamped, gripper: JointState) -> np.ndarray:
    """(4,) float32: end effector x, y, z (m), gripper opening (0..1).

    Raises:
        ConversionError: values missing, not finite, or an opening outside [0, 1] by more than 5 %.
    """
    p = pose.pose.position
    if not gripper.position:
        raise ConversionError("gripper message has no position")
    values = np.array([p.x, p.y, p.z, gripper.position[0]], np.float32)
    if not np.isfinite(values).all():
        raise ConversionError(f"end-effector pose or gripper is not finite: {values.tolist()}")
    if not -0.05 <= values[3] <= 1.05:
        raise ConversionError(f"gripper opening {values[3]:g} is outside [0, 1] (0 closed, 1 open)")
    return values


def byte_array(data: np.ndarray) -> array:
    """The bytes of an array in the only form that message fields take without a check of every element."""
    out = array("B")
    out.frombytes(memoryview(np.ascontiguousarray(data)).cast("B"))
    return out


def rgb_to_image(pixels: np.ndarray, header: Header) -> Image:
    """(H, W, 3) uint8 RGB as an rgb8 message."""
    height, width = pixels.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = byte_array(pixels)
    return message


def columns_to_cloud(columns: dict[str, np.ndarray], header: Header) -> PointCloud2:
    """(N,) columns as an unorganised cloud of float32 fields."""
    data = np.stack([np.asarray(c, np.float32) for c in columns.values()], 1)
    step = 4 * len(columns)
    message = PointCloud2(header=header, height=1, width=len(data), point_step=step, row_step=step * len(data))
    message.fields = [
        PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate(columns)
    ]
    message.is_dense = bool(np.isfinite(data).all())
    message.data = byte_array(data)
    return message
