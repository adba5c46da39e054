"""Colour images as camera sensors deliver them, made RGB by OpenCV: YUV, Bayer patterns; and those of 16 bits.

Row padding and byte order are honoured. YUV is that of ITU-R BT.601 with Y from 16 to 235, as v4l2 and cv_bridge have
it. OpenCV is imported with the first picture that needs it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .layouts import ConversionError

YUV422 = {"yuv422": "UYVY", "uyvy": "UYVY", "yuv422_yuy2": "YUYV", "yuyv": "YUYV"}  # ROS: yuv422 is in order U Y V Y
YUV420 = {"nv12": "NV12", "nv21": "NV21"}
# ROS names a pattern by its first four pixels, OpenCV by the two in the middle of the second row and column.
BAYER = {"bayer_rggb": "BG", "bayer_bggr": "RG", "bayer_gbrg": "GR", "bayer_grbg": "GB"}
# Encoding: channels, which of them are red, green and blue.
DEEP = {
    "mono16": (1, (0, 0, 0)),
    "rgb16": (3, (0, 1, 2)),
    "bgr16": (3, (2, 1, 0)),
    "rgba16": (4, (0, 1, 2)),
    "bgra16": (4, (2, 1, 0)),
}
CAMERA_ENCODINGS = (*YUV422, *YUV420, *(f"{name}{bits}" for bits in (8, 16) for name in BAYER), *DEEP)
LEAST_BAYER = 4  # pixels along each edge, below which there are no neighbours to mix


def camera_format_to_rgb(message: Any, what: str = "colour image") -> np.ndarray:
    """(H, W, 3) uint8 RGB of an Image of ``CAMERA_ENCODINGS``; of 16 bits the upper eight count.

    Raises:
        ConversionError: size, step and length do not agree, an odd size where the format joins pixels in twos, or
            OpenCV is not installed.
    """
    encoding = message.encoding
    if message.width < 1 or message.height < 1:
        raise ConversionError(f"{what} has size {message.width} x {message.height}")
    if encoding in DEEP:
        return _deep(message, what)
    if encoding in YUV422:
        _check_even(message, what, ("width",))
        pixels = _rows(message, what, 2 * message.width, message.height)
        code = f"COLOR_YUV2RGB_{YUV422[encoding]}"
        pixels = pixels.reshape(message.height, message.width, 2)
    elif encoding in YUV420:
        _check_even(message, what, ("width", "height"))
        pixels = _rows(message, what, message.width, message.height * 3 // 2)
        code = f"COLOR_YUV2RGB_{YUV420[encoding]}"
    else:
        if min(message.width, message.height) < LEAST_BAYER:
            raise ConversionError(
                f"{what} of encoding {encoding} has size {message.width} x {message.height}: at least {LEAST_BAYER} "
                "pixels each way are needed to find the colours between"
            )
        pattern, deep = (encoding[:-2], True) if encoding.endswith("16") else (encoding[:-1], False)
        pixels = _rows(message, what, message.width * (1 + deep), message.height)
        if deep:
            pixels = pixels[:, 0 if message.is_bigendian else 1 :: 2]
        code = f"COLOR_Bayer{BAYER[pattern]}2RGB"
    opencv = _opencv(encoding, what)
    return opencv.cvtColor(np.ascontiguousarray(pixels), getattr(opencv, code))


def _rows(message: Any, what: str, row: int, rows: int) -> np.ndarray:
    """(rows, row) uint8, without padding."""
    if message.step < row:
        raise ConversionError(
            f"{what} of encoding {message.encoding} has step {message.step}, a row of {message.width} pixels takes "
            f"{row} bytes"
        )
    if len(message.data) != message.step * rows:
        raise ConversionError(
            f"{what} of encoding {message.encoding} has {len(message.data)} bytes, {rows} rows of step {message.step} "
            f"make {message.step * rows}"
        )
    return np.frombuffer(message.data, np.uint8).reshape(rows, message.step)[:, :row]


def _check_even(message: Any, what: str, edges: tuple[str, ...]) -> None:
    odd = [f"{edge} {getattr(message, edge)}" for edge in edges if getattr(message, edge) % 2]
    if odd:
        raise ConversionError(
            f"{what} of encoding {message.encoding} has the odd {' and '.join(odd)}: its colours belong to two pixels "
            "each; let the driver send an even size, or rgb8"
        )


def _deep(message: Any, what: str) -> np.ndarray:
    """Plane by plane, the upper byte of each value: 0 stays 0 and 65535 becomes 255."""
    channels, order = DEEP[message.encoding]
    pixels = _rows(message, what, message.width * channels * 2, message.height)
    pixels = pixels.reshape(message.height, message.width, channels, 2)
    upper = pixels[..., 0 if message.is_bigendian else 1]
    rgb = np.empty((message.height, message.width, 3), np.uint8)
    for plane, channel in enumerate(order):
        rgb[..., plane] = upper[..., channel]
    return rgb


def _opencv(encoding: str, what: str) -> Any:
    try:
        import cv2
    except Exception as error:  # one that was built against another numpy raises what it likes
        raise ConversionError(
            f"{what} has encoding {encoding!r}, which is read by OpenCV, and that cannot be imported ({error}): "
            "install it (apt: python3-opencv; without ROS pip: opencv-python-headless), or let the driver send rgb8"
        ) from error
    return cv2
