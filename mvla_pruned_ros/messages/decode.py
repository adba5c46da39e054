"""Messages to arrays. A message that does not make sense is refused, and the error says what was wrong.

No message class is named here: anything with the fields of the ROS message will do, be it from the wire or from a bag,
and both give the same observation. ``Readers`` take the bytes of plain messages apart: our own (``layouts``), or
cv_bridge and sensor_msgs_py, which the node hands in where they are installed.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image as Picture

from . import layouts
from .camera_formats import CAMERA_ENCODINGS, camera_format_to_rgb
from .compressed_depth import compressed_depth_values
from .gripper import GripperJoint, gripper_opening
from .layouts import FLOAT32, FLOAT64, LAYOUTS, POINT_TYPES, ConversionError

PLAIN_ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8", "mono8")
COLOUR_ENCODINGS = (*PLAIN_ENCODINGS, *CAMERA_ENCODINGS)
DEPTH_ENCODINGS = ("32FC1", "16UC1")
MILLIMETRE = 0.001  # REP-118: 16UC1 depth is in millimetres; some cameras have other units
DEPTH_UNITS_M = (1e-6, 1.0)  # smallest and largest that may be set
FARTHEST_M = np.float32(1e6)  # finite numbers beyond it are no readings, and would overflow in what follows

__all__ = [
    "ConversionError",
    "GripperJoint",
    "Readers",
    "cloud_planes",
    "compressed_to_rgb",
    "depth_to_metres",
    "gripper_opening",
    "image_to_rgb",
    "pose_to_position",
    "stamp_ns",
]


@dataclass(frozen=True)
class Readers:
    """How messages are read: functions for plain ones, all of which give the same, and what numbers mean.

    Attributes:
        imgmsg_to_cv2: as cv_bridge's. read_points: as that of sensor_msgs_py.point_cloud2. Releases of both ignore row
            padding and byte order, and fail on fields without elements or with one name: such messages, and those that
            they fail on, are read by ``layouts``.
        gripper: the joint of the gripper. depth_unit_m: metres per unit of 16UC1 depth.
        joints: names of those whose positions are told, in this order; none: joint states are not read.
        orientation: poses without one are refused.
    """

    imgmsg_to_cv2: Callable[..., np.ndarray] = layouts.imgmsg_to_cv2
    read_points: Callable[..., np.ndarray] = layouts.read_points
    gripper: GripperJoint = field(default_factory=GripperJoint)
    depth_unit_m: float = MILLIMETRE
    joints: tuple[str, ...] = ()
    orientation: bool = False

    def __post_init__(self) -> None:
        low, high = DEPTH_UNITS_M
        if not low <= self.depth_unit_m <= high:
            raise ValueError(f"depth_unit_m must lie in [{low:g}, {high:g}] metres, got {self.depth_unit_m}")


OWN_READERS = Readers()


def stamp_ns(header: Any) -> int:
    """Nanoseconds of a header's stamp."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def image_to_rgb(message: Any, readers: Readers = OWN_READERS) -> np.ndarray:
    """(H, W, 3) uint8 RGB; may share memory with the message.

    Raises:
        ConversionError: encoding other than ``COLOUR_ENCODINGS``, or size, step and length do not agree.
    """
    if message.encoding in CAMERA_ENCODINGS:
        return camera_format_to_rgb(message)
    return _unpack_image(message, COLOUR_ENCODINGS, "rgb8", "colour image", readers)


def depth_to_metres(message: Any, readers: Readers = OWN_READERS) -> np.ndarray:
    """(H, W) float32 metres along the optical axis, 0 where there is no reading.

    Args:
        message: an Image of ``DEPTH_ENCODINGS``, or a CompressedImage of the transport ``compressedDepth``. Of 16UC1
            the unit is that of the readers; 32FC1 is in metres.

    Raises:
        ConversionError: another encoding, size, step and length do not agree, or data that cannot be decoded.
    """
    if hasattr(message, "format"):
        values, a, b = compressed_depth_values(message)
        if a is None:
            return values.astype(np.float32) * np.float32(readers.depth_unit_m)
        with np.errstate(divide="ignore", over="ignore"):
            depth = np.float32(a) / np.where(values > 0, values - np.float32(b), np.float32(np.nan))
    else:
        depth = _unpack_image(message, DEPTH_ENCODINGS, "passthrough", "depth image", readers)
        if message.encoding == "16UC1":
            return depth.astype(np.float32) * np.float32(readers.depth_unit_m)
    return np.where((depth > 0) & (depth < FARTHEST_M), depth, np.float32(0))  # false for NaN


def compressed_to_rgb(message: Any) -> np.ndarray:
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
            pixels = np.asarray(picture.convert("RGB"))
            # image_transport compresses what is in order of blue, green, red; what says that it was compressed in the
            # order of red, green, blue has the two exchanged in the file, and is shown so by every viewer of ROS.
            return pixels[..., ::-1] if "compressed rgb" in name else pixels
    except ConversionError:
        raise
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError) as error:
        raise ConversionError(
            f"compressed image of format {name!r} with {len(message.data)} bytes is no readable JPEG or PNG: {error}"
        ) from error


def cloud_planes(message: Any, readers: Readers = OWN_READERS) -> np.ndarray:
    """(3, N) float32 x, y, z of the finite points, in the cloud's own frame, metres.

    The rows of an organised cloud come one after the other. A point at the origin is no reading: that is how drivers
    without NaN write one.

    Raises:
        ConversionError: fields x, y, z missing or not floats, or size, steps and length disagree.
    """
    planes = _unpack_cloud(message, readers)
    valid = np.ones(planes.shape[1], bool)
    for plane in planes:
        valid &= np.abs(plane) < FARTHEST_M  # false for NaN
    at_sensor = planes[2] == 0
    if at_sensor.any():
        valid &= ~(at_sensor & (planes[0] == 0) & (planes[1] == 0))
    return planes if valid.all() else planes.compress(valid, 1)


def pose_to_position(message: Any, base_frame: str) -> np.ndarray:
    """(3,) float32 metres. Raises ConversionError when it is in another frame or not finite."""
    if message.header.frame_id != base_frame:
        raise ConversionError(
            f"end-effector pose is in frame {message.header.frame_id!r}: publish it in {base_frame!r} or set "
            "base_frame, or say where that frame is (sensor_frames, or tf with extrinsics_source: tf)"
        )
    p = message.pose.position
    position = np.array([p.x, p.y, p.z])
    if not (np.abs(position) < FARTHEST_M).all():  # false for NaN
        raise ConversionError(f"end-effector position is not finite or beyond all reach: {position.tolist()}")
    return position.astype(np.float32)


def _unpack_image(message: Any, encodings: tuple[str, ...], desired: str, what: str, readers: Readers) -> np.ndarray:
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
    if plain:
        with contextlib.suppress(Exception):  # ours reads whatever got here
            return np.ascontiguousarray(readers.imgmsg_to_cv2(message, desired_encoding=desired))
    return layouts.imgmsg_to_cv2(message, desired)


def _unpack_cloud(message: Any, readers: Readers) -> np.ndarray:
    """(height * width, 3) float32, as they are."""
    fields: dict[str, Any] = {field.name: field for field in message.fields}
    missing = [name for name in "xyz" if name not in fields]
    if missing:
        raise ConversionError(f"point cloud has fields {', '.join(fields) or '(none)'}: {', '.join(missing)} missing")
    end = 0
    for name in "xyz":
        if fields[name].datatype not in (FLOAT32, FLOAT64):
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
        return np.empty((3, 0), np.float32)
    packed = sum(np.dtype(POINT_TYPES.get(f.datatype, "V99")).itemsize * max(1, f.count) for f in message.fields)
    plain = row == width * step and packed == step and not message.is_bigendian and sys.byteorder == "little"
    plain = plain and len(fields) == len(message.fields) and all(field.count for field in message.fields)
    if plain:
        with contextlib.suppress(Exception):  # ours reads whatever got here
            return _stacked(readers.read_points(message, field_names=["x", "y", "z"]))
    return _stacked(layouts.read_points(message, ["x", "y", "z"]))


def _stacked(points: np.ndarray) -> np.ndarray:
    return np.stack([points[name] for name in "xyz"], dtype=np.float32, casting="same_kind")
