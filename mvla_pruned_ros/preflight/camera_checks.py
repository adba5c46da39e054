"""Images, depth, clouds and camera infos: read as the node reads them, and what their numbers say."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..messages.calibration import camera_model
from ..messages.decode import cloud_planes, compressed_to_rgb, depth_to_metres, image_to_rgb
from ..messages.layouts import ConversionError
from ..observation.builder import check_info
from ..observation.streams import INFO, is_image
from .evidence import Evidence, Stream
from .finding import Finding, fail, warn
from .remedies import remedy_of

DARK = 4  # mean of 0..255 below which a picture shows nothing
FEW_VALID, NO_VALID = 0.5, 0.02  # shares of the depth image
TOO_NEAR_M, TOO_FAR_M = 0.05, 20.0  # medians that no depth camera in front of an arm measures


def image(stream: Stream, evidence: Evidence) -> tuple[list[str], list[Finding]]:
    """A colour image. Raises ConversionError: it cannot be read."""
    message = stream.newest
    pixels = compressed_to_rgb(message) if hasattr(message, "format") else image_to_rgb(message, evidence.readers)
    facts = [f"{_size(pixels)} {_encoding(message)}", f"frame {message.header.frame_id or '(none)'}"]
    if pixels.mean() < DARK:
        found = f"{stream.topic} is black: the mean of its pixels is {pixels.mean():.1f} of 255"
        return facts, [warn(stream.name, found, "# take the cap off, switch on light, or enable auto exposure")]
    return facts, []


def depth(stream: Stream, evidence: Evidence) -> tuple[list[str], list[Finding]]:
    """A depth image. Raises ConversionError: it cannot be read."""
    message = stream.newest
    metres = depth_to_metres(message, evidence.readers)
    valid = metres > 0
    share, name = float(valid.mean()), stream.name
    facts = [f"{_size(metres)} {_encoding(message)}", f"frame {message.header.frame_id or '(none)'}"]
    facts.append(f"{1 - share:.0%} invalid")
    if share < NO_VALID:
        found = f"{stream.topic} has no depth: {1 - share:.0%} of its pixels are invalid"
        return facts, [fail(name, found, "# is the emitter on, and nothing nearer than the camera can measure?")]
    middle = float(np.median(metres[valid]))
    facts.append(f"median {middle:.2f} m")
    problems = _unit(stream, evidence, middle)
    if share < FEW_VALID:
        found = f"{stream.topic}: {1 - share:.0%} of the pixels have no depth"
        problems.append(warn(name, found, "# another distance, angle or exposure; switch on the emitter"))
    return facts, problems


def _unit(stream: Stream, evidence: Evidence, middle_m: float) -> list[Finding]:
    """Whether the median of a depth image can be metres."""
    if TOO_NEAR_M <= middle_m <= TOO_FAR_M:
        return []
    encoding = _encoding(stream.newest)
    found = f"{stream.topic}: half of the depth is beyond {middle_m:.3g} m as {encoding}"
    if "32FC1" in encoding:
        remedy = "# 32FC1 is metres (REP 118): let the driver publish metres, or millimetres as 16UC1"
    else:
        unit = evidence.readers.depth_unit_m
        remedy = f"depth_unit_m: 0.0001  # it is {unit:g} now: 0.0001 for a D405, 0.00025 for an L515, else 0.001"
    return [fail(stream.name, found, remedy)]


def cloud(stream: Stream, evidence: Evidence) -> tuple[list[str], list[Finding]]:
    """A PointCloud2. Raises ConversionError: it cannot be read."""
    message = stream.newest
    planes, count = cloud_planes(message, evidence.readers), message.width * message.height
    share = planes.shape[1] / count if count else 0.0
    facts = [f"{count} points, {1 - share:.0%} invalid", f"frame {message.header.frame_id or '(none)'}"]
    if share < NO_VALID:
        found = f"{stream.topic} has {planes.shape[1]} points that are valid, of {count}"
        return facts, [fail(stream.name, found, "# is the emitter on, and nothing nearer than the camera can measure?")]
    middle = float(np.median(np.linalg.norm(planes, axis=0)))
    facts.append(f"median {middle:.2f} m away")
    if middle > TOO_FAR_M:
        found = f"{stream.topic}: half of the points are farther than {middle:.4g} m"
        return facts, [fail(stream.name, found, "# a PointCloud2 is in metres: let the driver scale it by 0.001")]
    return facts, []


def camera_info(stream: Stream, evidence: Evidence) -> tuple[list[str], list[Finding]]:
    """A camera info and the picture that it belongs to. Raises ConversionError: they do not go together."""
    message, picture = stream.newest, evidence.streams.get(_picture_of(stream.name))
    other = picture.newest if picture is not None else None
    width, height = _pixels(other, evidence) if other is not None else (message.width, message.height)
    problems: list[Finding] = []
    if other is not None:
        try:
            check_info(other, message, "colour image" if is_image(_picture_of(stream.name)) else "depth image")
        except ConversionError as error:
            problems.append(fail(stream.name, str(error), remedy_of(str(error))))
    model = camera_model(message, width, height, np.eye(4))
    distorted = any(abs(value) > 1e-9 for value in message.d)
    facts = [
        f"calibrated for {message.width} x {message.height}", f"fx {model.fx:.1f}, fy {model.fy:.1f}",
        "rectified by P" if distorted else "no distortion",
    ]  # fmt: skip
    return facts, problems


def _picture_of(info: str) -> str:
    if info == "camera_info":
        return "image"
    return info.removesuffix(INFO)


def _pixels(message: Any, evidence: Evidence) -> tuple[int, int]:
    """Width and height of a picture; raises ConversionError where it cannot be read."""
    if not hasattr(message, "format"):
        return message.width, message.height
    if "compressedDepth" in message.format or "16UC1" in message.format:
        height, width = depth_to_metres(message, evidence.readers).shape
    else:
        height, width = compressed_to_rgb(message).shape[:2]
    return width, height


def _encoding(message: Any) -> str:
    return message.format if hasattr(message, "format") else message.encoding


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"
