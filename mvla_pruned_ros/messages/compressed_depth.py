"""Depth images of the image transport ``compressedDepth``, decoded without ROS.

A sensor_msgs/CompressedImage whose data are 12 bytes of header (int32 format, float32 A, float32 B, little-endian) and
(H, W) values of 16 bits as PNG or RVL. Of a 16UC1 image they are its values, in millimetres or the unit of its camera;
of a 32FC1 image inverse depth in steps, metres = A / (value - B). 0 is no reading.
(compressed_depth_image_transport/src/codec.cpp)

The transport ``compressed`` makes a plain PNG of a 16UC1 image, without a header ("16UC1; png compressed"). It loses
nothing either.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image as Picture

from .layouts import ConversionError

HEADER = struct.Struct("<iff")
KINDS = ("16UC1", "32FC1")
CODECS = ("png", "rvl")
SIXTEEN_BITS = ("I;16", "I;16B", "I")  # modes of a 16 bit PNG, by release of PIL
MOST_PIXELS = 1 << 26  # a few bytes may claim any size
MOST_GROUPS = 12  # of a number of RVL: 36 bits, more than any size or difference has


def compressed_depth_values(message: Any) -> tuple[np.ndarray, float | None, float]:
    """What a message holds, not yet in metres.

    Returns:
        (H, W) uint16 values; A, or None when they are those of a 16UC1 image; B.

    Raises:
        ConversionError: another format, or data that cannot be decoded.
    """
    data = bytes(message.data)
    kind, codec = _format_of(message.format)
    if codec == "plain png":
        return _png(data), None, 0.0
    if len(data) <= HEADER.size:
        raise ConversionError(f"compressed depth has {len(data)} bytes: not even the header of {HEADER.size} is whole")
    _, a, b = HEADER.unpack_from(data)
    values = (_png if codec == "png" else _rvl)(data[HEADER.size :])
    if kind == "16UC1":
        return values, None, 0.0
    if not (np.isfinite([a, b]).all() and a > 0):
        raise ConversionError(f"compressed depth has quantisation A = {a}, B = {b}: both must be finite and A positive")
    return values, a, b


def _format_of(text: str) -> tuple[str, str]:
    """Kind and codec, of "16UC1; compressedDepth png" and what older releases write: without the codec it is png."""
    kind, _, rest = (part.strip() for part in text.partition(";"))
    words = rest.split()
    if kind == "16UC1" and words[:1] == ["png"]:
        return kind, "plain png"
    if kind not in KINDS or (words and words[0] != "compressedDepth"):
        lossy = "; a lossy format blurs edges into points that are not there" if "jpeg" in text or "jpg" in text else ""
        raise ConversionError(
            f"depth image has format {text!r}: compressedDepth of {' or '.join(KINDS)} is expected, as "
            f"'16UC1; compressedDepth png', or '16UC1; png compressed'{lossy}"
        )
    codec = words[1] if len(words) > 1 else "png"
    if codec not in CODECS:
        raise ConversionError(f"compressed depth of codec {codec!r} cannot be read: {' or '.join(CODECS)} can")
    return kind, codec


def _png(data: bytes) -> np.ndarray:
    try:
        with Picture.open(io.BytesIO(data), formats=("PNG",)) as picture:
            _check_size(*picture.size)
            if picture.mode not in SIXTEEN_BITS:
                raise ConversionError(f"compressed depth is a PNG of mode {picture.mode}: grey of 16 bits is expected")
            return np.asarray(picture).astype(np.uint16)
    except ConversionError:
        raise
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError) as error:
        raise ConversionError(f"compressed depth with {len(data)} bytes is no readable PNG: {error}") from error


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1 or width * height > MOST_PIXELS:
        raise ConversionError(f"compressed depth says its size is {width} x {height}")


def _rvl(data: bytes) -> np.ndarray:
    """(H, W) uint16. Wilson, Fast Lossless Depth Image Compression, 2017; width and height go before it as uint32.

    A stream of whole numbers: how many zeros, how many others, then these as differences to the one before (sign in
    the lowest bit), and again. Each is written in groups of 3 bits, lowest first, with a fourth bit that says whether
    another follows; eight groups make an int32, filled from above.
    """
    if len(data) < 8:
        raise ConversionError(f"compressed depth (rvl) has {len(data)} bytes: its size is not even whole")
    width, height = struct.unpack_from("<II", data)
    _check_size(width, height)
    words = np.frombuffer(data, "<u4", offset=8, count=(len(data) - 8) // 4)
    nibbles = (words[:, None] >> np.arange(28, -4, -4, dtype=np.uint32) & 0xF).ravel().astype(np.int64)
    ends = np.flatnonzero(nibbles < 8)
    starts = np.append(0, ends[:-1] + 1)[: len(ends)]
    sizes = ends - starts + 1
    place = np.arange(sizes.sum()) - np.repeat(starts, sizes)
    bits = np.where(place < MOST_GROUPS, (nibbles[: len(place)] & 7) << 3 * np.minimum(place, MOST_GROUPS), 0)
    numbers = np.add.reduceat(bits, starts) if len(starts) else bits
    runs, filled, at = [], 0, 0
    while filled < width * height:
        if at + 2 > len(numbers):
            raise ConversionError(f"compressed depth (rvl) ends after {filled} of {width} x {height} pixels")
        zeros, others = int(numbers[at]), int(numbers[at + 1])
        if filled + zeros + others > width * height or at + 2 + others > len(numbers):
            raise ConversionError(f"compressed depth (rvl) is malformed after {filled} of {width} x {height} pixels")
        runs.append((filled + zeros, at + 2, others))
        filled, at = filled + zeros + others, at + 2 + others
    pixel, number, count = np.array(runs).T
    within = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    coded = numbers[np.repeat(number, count) + within]
    values = np.zeros(width * height, np.uint16)
    values[np.repeat(pixel, count) + within] = (coded >> 1 ^ -(coded & 1)).cumsum() & 0xFFFF
    return values.reshape(height, width)
