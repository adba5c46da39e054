"""What rclpy adds to ``messages``: its classes for the encoder, cv_bridge and sensor_msgs_py for the decoder."""

from __future__ import annotations

import contextlib
import importlib
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np

from ..messages import decode
from ..messages.encode import Encoder


def message_class(kind: str) -> Any:
    """The rclpy class of ``package/msg/Name``."""
    package, _, name = kind.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def sequence(values: np.ndarray) -> array:
    """Numbers in the only form that message fields take without a slow check of every element."""
    out = array(values.dtype.char)
    out.frombytes(np.ascontiguousarray(values).data.cast("B"))
    return out


ENCODER = Encoder(message_class, sequence)


def use_installed_readers() -> None:
    """Let ``decode`` read with cv_bridge and sensor_msgs_py where they are installed."""
    imgmsg_to_cv2: Callable[..., np.ndarray] | None = None
    read_points: Callable[..., np.ndarray] | None = None
    try:
        from cv_bridge import CvBridge

        imgmsg_to_cv2 = CvBridge().imgmsg_to_cv2
    except Exception:  # a cv_bridge that was built against another numpy fails with more than ImportError
        pass
    with contextlib.suppress(ImportError):
        from sensor_msgs_py import point_cloud2

        read_points = point_cloud2.read_points
    decode.use_installed(imgmsg_to_cv2, read_points)
