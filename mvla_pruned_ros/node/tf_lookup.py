"""tf2, asked where a frame was at the stamp of a message. tf2_ros comes with ROS only: there are no wheels of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.time import Time

from ..messages.decode import stamp_ns
from ..observation.frames import TransformError, pose_of

POLL_S = 0.002


class TfLookup:
    """Listens to /tf and /tf_static from now on."""

    def __init__(
        self, node: Node, timeout_s: Callable[[], float], asked_by: Sequence[str] = ("extrinsics_source",)
    ) -> None:
        """
        Args:
            node: its executor must run while ``lookup`` waits. timeout_s: how long it may wait.
            asked_by: parameters that ask for tf, for messages.

        Raises:
            ValueError: tf2_ros cannot be imported.
        """
        try:
            import tf2_ros
        except ImportError as error:
            raise ValueError(
                f"{' and '.join(asked_by)} is tf, but tf2_ros cannot be imported ({error}): source a ROS that has it "
                "(apt: ros-$ROS_DISTRO-tf2-ros-py; there is no wheel), or give extrinsics.* and set extrinsics_source "
                "to parameters, and ee_pose_source to topic"
            ) from error
        self._timeout_s, self._unknown = timeout_s, tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def lookup(self, target: str, source: str, at_ns: int) -> np.ndarray:
        """(4, 4) target_from_source at a stamp, waiting for it by steady time. Not for callbacks: it blocks.

        Raises:
            TransformError: not known in time, or no pose.
        """
        until = time.monotonic() + self._timeout_s()
        while True:
            try:
                found = self._buffer.lookup_transform(target, source, Time(nanoseconds=at_ns))
                break
            except self._unknown as error:
                if time.monotonic() >= until:
                    raise TransformError(
                        f"{source!r} in {target!r} at {at_ns / 1e9:.3f} s is not known: {error}"
                    ) from error
            time.sleep(POLL_S)
        return _pose(found, target, source)

    def newest(self, target: str, source: str) -> tuple[np.ndarray, int]:
        """(4, 4) target_from_source, the newest there is, and its stamp in nanoseconds; 0: it holds for all time.

        Does not wait. Raises TransformError: nothing is known, or no pose.
        """
        try:
            found = self._buffer.lookup_transform(target, source, Time())
        except self._unknown as error:
            raise TransformError(f"{source!r} in {target!r} is not known: {error}") from error
        return _pose(found, target, source), stamp_ns(found.header)

    def parents(self) -> dict[str, str]:
        """Frame -> its parent, of all transforms that were heard."""
        import yaml

        tree = yaml.safe_load(self._buffer.all_frames_as_yaml()) or {}
        return {str(frame): str(about["parent"]) for frame, about in tree.items()}

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()

    def flush(self) -> None:
        """Forget what was heard, but not what is static (clock jump): tf2 refuses what is older than it has."""
        self._buffer.clear()


def _pose(found: Any, target: str, source: str) -> np.ndarray:
    """(4, 4) of a geometry_msgs/TransformStamped."""
    t, q = found.transform.translation, found.transform.rotation
    try:
        return pose_of([t.x, t.y, t.z], [q.x, q.y, q.z, q.w])
    except ValueError as error:
        raise TransformError(f"{source!r} in {target!r}: tf gives no pose: {error}") from error
