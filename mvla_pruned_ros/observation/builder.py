"""Matched messages, live or from a bag, to observations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
    image_to_rgb,
    stamp_ns,
)
from ..messages.layouts import ConversionError
from ..types import Observation, View
from .arm_state import arm_state, with_hand
from .frames import Frames
from .streams import INFO, info_of, is_cloud, is_image
from .synchronizer import MatchedMessages


class FramesOfCall:
    """Frames that remember what tf answered for the observation that was made last, so that it can be made again.

    Attributes:
        poses: of sensors that stand still and of those on the hand, see ``Frames``.
        answers: frame, stamp in nanoseconds, (4, 4) pose in the base frame.
    """

    def __init__(self, frames: Frames) -> None:
        self.poses = {**frames.poses, **frames.hand}
        self.answers: list[tuple[str, int, np.ndarray]] = []
        self._lookup = frames.lookup
        self.frames = frames if frames.lookup is None else replace(frames, lookup=self._ask)

    def _ask(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        assert self._lookup is not None
        pose = self._lookup(target, source, stamp_ns)
        self.answers.append((source, stamp_ns, pose))
        return pose


class ObservationBuilder:
    """Makes observations, in the frames it is given.

    A cloud that serves several images is converted once, and so, because they hold the same array, grouped once by the
    policy.

    Attributes:
        frames: with the answers of tf that the last observation was made with.
    """

    def __init__(self, frames: Frames, readers: Readers = OWN_READERS) -> None:
        """Args: readers: of messages."""
        self.frames, self._readers = FramesOfCall(frames), readers
        self._clouds: list[Any] = []
        self._points = np.empty((0, 3), np.float32)
        self._answers: list[tuple[str, int, np.ndarray]] = []  # for these points

    def build(self, matched: MatchedMessages, instruction: str, last_command: np.ndarray | None = None) -> Observation:
        """Raises ConversionError and TransformError as ``observation_of`` does."""
        messages, frames = matched.messages, with_hand(self.frames.frames, matched.messages)
        clouds = {name: message for name, message in messages.items() if is_cloud(name)}
        self.frames.answers.clear()
        if len(clouds) != len(self._clouds) or not all(map(is_, clouds.values(), self._clouds)):
            self._points = points_of(messages, frames, self._readers)
            self._answers = list(self.frames.answers)
            # What becomes of a depth image depends on its camera info too, and it is as new as the colour image; what
            # becomes of a cloud of the hand, on the poses that are known by then.
            keep = all(name.startswith("points") for name in clouds) and not frames.hand
            self._clouds = list(clouds.values()) if keep else []
        else:
            self.frames.answers += self._answers
        return observation_of(
            matched.stamp_ns, messages, instruction, frames, self._points, self._readers, last_command
        )


def observation_of(
    stamp: int, messages: Mapping[str, Any], instruction: str, frames: Frames, points: np.ndarray | None = None,
    readers: Readers = OWN_READERS, last_command: np.ndarray | None = None,
) -> Observation:  # fmt: skip
    """Messages that belong to one image as an observation, with the points of all clouds.

    Args:
        stamp: of the image, nanoseconds. messages: ``image`` (raw or compressed), ``camera_info``, and ``image_1``,
            ``image_1_camera_info``, ... of more cameras; ``ee_pose`` (left out where tf tells it), ``gripper`` and
            ``joint_states``, which may be followed by a second message (``ee_pose_after``) so that the image lies
            between them, and, where the hand carries sensors, the poses near their stamps (``streams.pose_near``); and
            clouds: ``depth`` or ``points``, and ``depth_1``, ``points_2``, ... of more cameras. Depth that is not
            registered to the colour image has its own camera info, ``depth_camera_info``.
        points: what ``points_of`` made of these messages, where that was done before. readers: of messages.
        last_command: see ``ArmState``; None: what is measured, as before the first command.

    Raises:
        ConversionError: a message that cannot be used, or in a frame of which nothing is known.
        TransformError: where a camera or a cloud was at its stamp is not known.
    """
    frames = with_hand(frames, messages)
    views = tuple(_view(name, messages, frames, readers) for name in messages if is_image(name))
    points = points_of(messages, frames, readers) if points is None else points
    return Observation(stamp, views, points, arm_state(stamp, messages, frames, readers, last_command), instruction)


def _view(name: str, messages: Mapping[str, Any], frames: Frames, readers: Readers) -> View:
    message, info = messages[name], messages[info_of(name)]
    what = "colour image" if name == "image" else f"colour image {name}"
    image = compressed_to_rgb(message) if hasattr(message, "format") else image_to_rgb(message, readers)
    check_info(message, info, what)
    frame = message.header.frame_id
    if name == "image":
        frame = _camera_of(frame, frames)
    pose = frames.pose(frame, stamp_ns(message.header), what)
    return View(name, image, camera_model(info, image.shape[1], image.shape[0], pose))


def points_of(messages: Mapping[str, Any], frames: Frames, readers: Readers = OWN_READERS) -> np.ndarray:
    """(N, 3) float32 points of all clouds of some messages, base frame, metres; see ``observation_of``."""
    frames = with_hand(frames, messages)
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
        check_info(message, info, "depth image")
    depth = depth_to_metres(message, readers)
    height, width = depth.shape
    pose = frames.pose(frame, stamp_ns(message.header), "depth image")
    return depth_to_points(depth, camera_model(info, width, height, pose))


def _camera_of(frame: str, frames: Frames) -> str:
    """Frame of the first camera; raises ConversionError when the image is in another."""
    if frame and frame != frames.camera:
        raise ConversionError(
            f"colour image is in frame {frame!r}, and the pose that is used is that of {frames.camera!r}: set "
            "camera_frame to the frame of the image, and the extrinsics to its pose"
        )
    return frames.camera


def check_info(image: Any, info: Any, what: str) -> None:
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
