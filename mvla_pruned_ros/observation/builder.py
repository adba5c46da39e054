"""Matched messages, live or from a bag, to observations."""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_
from typing import Any

import numpy as np

from ..geometry.clouds import depth_to_points
from ..messages.calibration import camera_model
from ..messages.decode import (
    OWN_READERS,
    Readers,
    cloud_planes,
    compressed_to_rgb,
    depth_to_metres,
    gripper_opening,
    image_to_rgb,
    stamp_ns,
)
from ..messages.layouts import ConversionError
from ..types import Observation
from .end_effector import end_effector_pose
from .frames import Frames
from .streams import INFO, is_cloud
from .synchronizer import MatchedMessages


class ObservationBuilder:
    """Makes observations, in the frames it is given.

    A cloud that serves several images is converted once, and so, because they hold the same array, grouped once by the
    policy.
    """

    def __init__(self, frames: Frames, readers: Readers = OWN_READERS) -> None:
        """Args: readers: of messages."""
        self._frames, self._readers = frames, readers
        self._clouds: list[Any] = []
        self._points = np.empty((0, 3), np.float32)

    def build(self, matched: MatchedMessages, instruction: str) -> Observation:
        """Raises ConversionError and TransformError as ``observation_of`` does."""
        messages = matched.messages
        clouds = {name: message for name, message in messages.items() if is_cloud(name)}
        if len(clouds) != len(self._clouds) or not all(map(is_, clouds.values(), self._clouds)):
            self._points = points_of(messages, self._frames, self._readers)
            # What becomes of a depth image depends on its camera info too, and it is as new as the colour image.
            self._clouds = list(clouds.values()) if all(name.startswith("points") for name in clouds) else []
        return observation_of(matched.stamp_ns, messages, instruction, self._frames, self._points, self._readers)


def observation_of(
    stamp: int, messages: Mapping[str, Any], instruction: str, frames: Frames, points: np.ndarray | None = None,
    readers: Readers = OWN_READERS,
) -> Observation:  # fmt: skip
    """Messages that belong to one image as an observation, with the points of all clouds.

    Args:
        stamp: of the image, nanoseconds. messages: ``image`` (raw or compressed), ``camera_info``, ``ee_pose``
            (left out where tf tells it), ``gripper``, and clouds: ``depth`` or ``points``, and ``depth_1``,
            ``points_2``, ... of more cameras. Depth that is not registered to the colour image has its own camera info,
            ``depth_camera_info``.
        points: what ``points_of`` made of these messages, where that was done before. readers: of messages.

    Raises:
        ConversionError: a message that cannot be used, or in a frame of which nothing is known.
        TransformError: where the camera or a cloud was at its stamp is not known.
    """
    message = messages["image"]
    image = compressed_to_rgb(message) if hasattr(message, "format") else image_to_rgb(message, readers)
    _check_frames(message, messages["camera_info"], frames)
    pose = frames.pose(frames.camera, stamp, "colour image")
    camera = camera_model(messages["camera_info"], image.shape[1], image.shape[0], pose)
    points = points_of(messages, frames, readers) if points is None else points
    position, _ = end_effector_pose(messages.get("ee_pose"), stamp, frames)
    proprio = np.append(position, np.float32(gripper_opening(messages["gripper"], readers.gripper)))
    return Observation(stamp, image, points, camera, proprio, instruction)


def points_of(messages: Mapping[str, Any], frames: Frames, readers: Readers = OWN_READERS) -> np.ndarray:
    """(N, 3) float32 points of all clouds of some messages, base frame, metres; see ``observation_of``."""
    clouds = [_cloud_points(name, messages, frames, readers) for name in messages if is_cloud(name)]
    return clouds[0] if len(clouds) == 1 else np.concatenate(clouds)


def _cloud_points(name: str, messages: Mapping[str, Any], frames: Frames, readers: Readers) -> np.ndarray:
    """(N, 3) float32 of one stream, base frame."""
    message = messages[name]
    if name.startswith("points"):
        return cloud_to_points(message, frames, readers)
    frame, info = message.header.frame_id, messages.get(name + INFO)
    if info is None:
        if frame != frames.camera:
            raise ConversionError(
                f"depth image is in frame {frame!r}, not {frames.camera!r}: register it to the colour camera, set "
                "camera_frame and extrinsics.*, or depth_registered to false"
            )
        info = messages["camera_info"]
    else:
        _check_info(message, info, "depth image")
    depth = depth_to_metres(message, readers)
    height, width = depth.shape
    pose = frames.pose(frame, stamp_ns(message.header), "depth image")
    return depth_to_points(depth, camera_model(info, width, height, pose))


def _check_frames(image: Any, info: Any, frames: Frames) -> None:
    """Raises ConversionError when image, its camera info and the pose that is used are not of one camera."""
    frame = image.header.frame_id
    _check_info(image, info, "colour image")
    if frame and frame != frames.camera:
        raise ConversionError(
            f"colour image is in frame {frame!r}, and the pose that is used is that of {frames.camera!r}: set "
            "camera_frame to the frame of the image, and the extrinsics to its pose"
        )


def _check_info(image: Any, info: Any, what: str) -> None:
    """Raises ConversionError when an image and its camera info name different frames; one that names none will do."""
    frame, other = image.header.frame_id, info.header.frame_id
    if frame and other and frame != other:
        raise ConversionError(
            f"{what} is in frame {frame!r}, its camera info in {other!r}: these are two cameras; use the camera info "
            "that the driver publishes beside this image"
        )


def cloud_to_points(message: Any, frames: Frames, readers: Readers = OWN_READERS) -> np.ndarray:
    """(N, 3) float32 finite points in the base frame, metres; rows of an organised cloud one after the other.

    Moved plane by plane, each axis contiguous in memory: a third of the time of a matrix product, which moreover has
    numpy's BLAS start threads that keep spinning and take a core from the commands of the same machine.

    Raises:
        ConversionError: a frame that ``frames`` does not know, or as ``cloud_planes``.
    """
    frame, pose = message.header.frame_id, None
    if frame != frames.base:
        pose = frames.pose(frame, stamp_ns(message.header), "point cloud")
    planes = cloud_planes(message, readers)
    if pose is None:
        return planes.T
    x, y, z = planes
    moved = np.empty_like(planes)
    for axis, (right, down, ahead, origin) in zip(moved, pose.astype(np.float32)):
        np.multiply(x, right, out=axis)
        axis += y * down
        axis += z * ahead
        axis += origin
    return moved.T
