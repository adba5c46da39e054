"""Camera infos: the pinhole model of an image, and whether its picture has lens distortion that it leaves out."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..types import CameraModel
from .layouts import ConversionError

ASPECT_TOLERANCE = 0.01
FOCAL_PX = (0.1, 1e6)
SAME_PX = 0.01  # intrinsics that differ by less are those of one picture
DISTORTION_PX = 0.5  # displacement of a pixel that is no longer taken for none,
DISTORTION = 1e-3  # nor is one that moves a point by so many metres for each metre of depth
GRID = 33  # along each edge of an image, pixels whose displacement is looked at
BROWN = ("plumb_bob", "rational_polynomial")
FISHEYE = ("equidistant", "fisheye")


def camera_model(message: Any, width: int, height: int, base_from_camera: np.ndarray) -> CameraModel:
    """Model of the camera for its image of ``width`` x ``height`` pixels, rescaled when the info is for another size.

    The image must be rectified or free of distortion: with distortion coefficients the rectified intrinsics (P) are
    taken, without them K, or P where only that is given. CameraInfo puts the centre of a pixel at whole numbers,
    CameraModel at + 0.5; intrinsics are those of the sensor before binning.

    Raises:
        ConversionError: no intrinsics, a picture that is not rectified, or the two sizes differ in shape (a cropped
            image).
    """
    if message.width < 1 or message.height < 1:
        raise ConversionError(f"camera info has size {message.width} x {message.height}: the camera is not calibrated")
    fx, fy, cx, cy = _intrinsics(message)
    if not all(FOCAL_PX[0] <= f <= FOCAL_PX[1] for f in (fx, fy)) or not all(abs(c) < FOCAL_PX[1] for c in (cx, cy)):
        raise ConversionError(
            f"camera info has focal lengths {fx:g}, {fy:g} and centre {cx:g}, {cy:g} in pixels: the camera is not "
            "calibrated"
        )
    roi, size = message.roi, (message.width, message.height)
    if roi.width and roi.height and (roi.width, roi.height) != size:
        cx, cy, size = cx - roi.x_offset, cy - roi.y_offset, (roi.width, roi.height)
    binning = max(1, message.binning_x), max(1, message.binning_y)
    if all(length in (full // bins, -(-full // bins)) for length, full, bins in zip((width, height), size, binning)):
        size = width * binning[0], height * binning[1]  # of an odd size binning leaves a row or column out
    elif abs(width / height * size[1] / size[0] - 1) > ASPECT_TOLERANCE:
        raise ConversionError(
            f"image is {width} x {height}, camera info is for {size[0]} x {size[1]}: sizes of another shape cannot be "
            "matched by rescaling; publish the camera info of this image"
        )
    try:
        model = CameraModel(size[0], size[1], fx, fy, cx + 0.5, cy + 0.5, base_from_camera)
    except ValueError as error:
        raise ConversionError(f"camera info: {error}; the camera is not calibrated") from error
    return model if size == (width, height) else model.resized(width, height)


def _intrinsics(message: Any) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy in pixels of the picture as it is. Raises ConversionError when that is not rectified."""
    k, p = message.k, message.p
    raw = float(k[0]), float(k[4]), float(k[2]), float(k[5])
    rectified = float(p[0]), float(p[5]), float(p[2]), float(p[6])
    has_rectified = rectified[0] > 0 and rectified[1] > 0
    if has_rectified and not any(raw):
        return rectified
    if all(abs(d) <= 1e-9 for d in message.d):  # false for NaN
        return raw
    if has_rectified and not np.allclose(raw, rectified, rtol=0, atol=SAME_PX):
        return rectified
    _check_distortion(message, raw)
    return raw


def _check_distortion(message: Any, intrinsics: tuple[float, float, float, float]) -> None:
    """Raises ConversionError when distortion moves a pixel by more than ``DISTORTION_PX`` or ``DISTORTION``."""
    model, coefficients = message.distortion_model, np.asarray(message.d, np.float64)
    moved = largest_displacement(model, coefficients, intrinsics, message.width, message.height)
    if moved is not None and moved <= min(DISTORTION_PX, DISTORTION * min(intrinsics[:2])):
        return
    if moved is None:
        known = ", ".join((*BROWN, *FISHEYE))
        how = f"of model {model!r} with {len(coefficients)} coefficients, which is not known here ({known} are)"
    else:
        how = f"of model {model!r}, which moves pixels by up to {moved:.1f}"
    raise ConversionError(
        f"camera info has lens distortion {how}, and its P is no other than its K: the picture is not rectified. "
        "Rectify image and depth (image_proc: ros2 run image_proc rectify_node) and use the camera info of the "
        "rectified picture, with the new intrinsics in P or without distortion coefficients"
    )


def largest_displacement(
    model: str, coefficients: np.ndarray, intrinsics: tuple[float, float, float, float], width: int, height: int
) -> float | None:
    """By how many pixels distortion moves what a pinhole camera would see at a pixel, at most, over the image.

    Args:
        coefficients: D of the camera info. intrinsics: fx, fy, cx, cy in pixels.

    Returns:
        Pixels, infinite where the model has no finite answer; None: another model, or more coefficients than are known.
    """
    fx, fy, cx, cy = intrinsics
    if not (fx > 0 and fy > 0):
        return 0.0  # not calibrated, which is said elsewhere
    x, y = np.meshgrid((np.linspace(0, width - 1, GRID) - cx) / fx, (np.linspace(0, height - 1, GRID) - cy) / fy)
    with np.errstate(all="ignore"):
        if model in FISHEYE and len(coefficients) <= 4:
            distorted = _fisheye(x, y, coefficients)
        elif model in BROWN and not coefficients[12:].any():
            distorted = _brown(x, y, coefficients[:12])
        else:
            return None
        moved = np.hypot(fx * (distorted[0] - x), fy * (distorted[1] - y)).max()
    return float(moved) if np.isfinite(moved) else float("inf")


def _brown(x: np.ndarray, y: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of OpenCV: k1 k2 p1 p2 k3, then k4 k5 k6 of the rational model, then s1 s2 s3 s4 of a thin prism."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = np.pad(coefficients, (0, 12 - len(coefficients)))
    r = x * x + y * y
    radial = (1 + r * (k1 + r * (k2 + r * k3))) / (1 + r * (k4 + r * (k5 + r * k6)))
    return (
        x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x) + r * (s1 + r * s2),
        y * radial + p1 * (r + 2 * y * y) + 2 * p2 * x * y + r * (s3 + r * s4),
    )


def _fisheye(x: np.ndarray, y: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kannala and Brandt: k1 k2 k3 k4 of the angle to the optical axis."""
    k1, k2, k3, k4 = np.pad(coefficients, (0, 4 - len(coefficients)))
    radius = np.hypot(x, y)
    angle = np.arctan(radius)
    a = angle * angle
    bent = angle * (1 + a * (k1 + a * (k2 + a * (k3 + a * k4))))
    scale = np.where(radius > 1e-9, bent / np.maximum(radius, 1e-9), 1.0)
    return x * scale, y * scale
