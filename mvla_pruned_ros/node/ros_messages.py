"""What rclpy adds to ``messages``: its classes for the encoder, cv_bridge and sensor_msgs_py for the decoder."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import signal
import subprocess
import sys
from array import array
from dataclasses import replace
from typing import Any

import numpy as np

from ..messages.decode import Readers
from ..messages.encode import Encoder

LONGEST_TRY_S = 30.0  # of cv_bridge, on a busy computer


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


# Run in a process of its own: a cv_bridge that was built against another numpy ends the process at the first picture.
TRY_CV_BRIDGE = """
from array import array
from cv_bridge import CvBridge
from sensor_msgs.msg import Image
for encoding, size in (("bgr8", 3), ("mono8", 1)):
    image = Image(height=2, width=2, encoding=encoding, step=2 * size, data=array("B", bytes(4 * size)))
    assert CvBridge().imgmsg_to_cv2(image, desired_encoding="rgb8").shape == (2, 2, 3)
"""


@functools.cache
def installed_readers() -> tuple[Readers, tuple[str, ...]]:
    """cv_bridge and sensor_msgs_py where they are installed and work, our own readers elsewhere.

    Both read alike (test_conversions.py). On a 1280 x 720 image cv_bridge takes 0.1 ms to put bgr8 and mono8 in order
    and ours 0.8; rgb8, 16UC1 and clouds take both the same.

    Returns:
        Readers, and why one that is installed is left aside.
    """
    readers = Readers()
    problems = []
    if importlib.util.find_spec("cv_bridge") is not None:
        problem = _failure(TRY_CV_BRIDGE)
        if problem:
            problems.append(f"cv_bridge is installed but cannot be used, images are read without it: {problem}")
        else:
            from cv_bridge import CvBridge

            readers = replace(readers, imgmsg_to_cv2=CvBridge().imgmsg_to_cv2)
    try:
        from sensor_msgs_py import point_cloud2

        readers = replace(readers, read_points=point_cloud2.read_points)
    except ModuleNotFoundError:
        pass
    except Exception as error:
        problems.append(f"sensor_msgs_py is installed but cannot be used, clouds are read without it: {error}")
    return readers, tuple(problems)


def _failure(code: str) -> str:
    """How a process that runs the code ends, when not well; empty when it does."""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LONGEST_TRY_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode < 0:
        return f"it ends the process ({signal.Signals(-done.returncode).name})"
    lines = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else (lines[-1] if lines else f"exit code {done.returncode}")
