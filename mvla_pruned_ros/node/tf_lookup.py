"""tf2, asked where a frame was at the stamp of a message. tf2_ros comes with ROS only: there are no wheels of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from rclpy.node import Node
from rclpy.time import Time

from ..observation.frames import TransformError, pose_of

POLL_S = 0.002


class TfLookup:
    """Listens to /tf and /tf_static from now on."""

    def __init__(self, node: Node, timeout_s: Callable[[], float]) -> None:
        """
        Args:
            node: its executor must run while ``lookup`` waits. timeout_s: how long it may wait.

        Raises:
            ValueError: tf2_ros cannot be imported.
        """
        try:
            import tf2_ros
        except ImportError as error:
            raise ValueError(
                f"extrinsics_source is tf, but tf2_ros cannot be imported ({error}): source a ROS that has it (apt: "
                "ros-$ROS_DISTRO-tf2-ros-py; there is no wheel), or give extrinsics.* and set it to parameters"
            ) from error
        self._timeout_s, self._unknown = timeout_s, tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """(4, 4) target_from_source at a stamp, waiting for it by steady time. Not for callbacks: it blocks.

        Raises:
            TransformError: not known in time, or no pose.
        """
        until = time.monotonic() + self._timeout_s()
        while True:
            try:
                found = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
                break
            except self._unknown as error:
                if time.monotonic() >= until:
                    raise TransformError(
                        f"{source!r} in {target!r} at {stamp_ns / 1e9:.3f} s is not known: {error}"
                    ) from error
            time.sleep(POLL_S)
        t, q = found.transform.translation, found.transform.rotation
        try:
            return pose_of([t.x, t.y, t.z], [q.x, q.y, q.z, q.w])
        except ValueError as error:
            raise TransformError(f"{source!r} in {target!r}: tf gives no pose: {error}") from error

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()

    def flush(self) -> None:
        """Forget what was heard, but not what is static (clock jump): tf2 refuses what is older than it has."""
        self._buffer.clear()
