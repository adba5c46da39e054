"""ROS messages to arrays and back, whatever their classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _lazily

_HOMES = {
    "calibration": ("camera_model",),
    "decode": ("cloud_planes", "compressed_to_rgb", "depth_to_metres", "image_to_rgb", "stamp_ns"),
    "encode": ("Encoder",),
    "layouts": ("ConversionError",),
}
__all__ = [
    "ConversionError",
    "Encoder",
    "camera_model",
    "cloud_planes",
    "compressed_to_rgb",
    "depth_to_metres",
    "image_to_rgb",
    "stamp_ns",
]

if TYPE_CHECKING:
    from .calibration import camera_model
    from .decode import cloud_planes, compressed_to_rgb, depth_to_metres, image_to_rgb, stamp_ns
    from .encode import Encoder
    from .layouts import ConversionError
else:
    __getattr__ = _lazily(__name__, _HOMES)
