"""Which streams an observation is made of."""

from __future__ import annotations

import re
from collections.abc import Iterable

EXTRA_CLOUD = re.compile(r"(depth|points)_[1-9]")
EXTRA_IMAGE = re.compile(r"image_[1-9]")
INFO = "_camera_info"
# Streams whose values at an image's stamp lie between two messages, and how the second of them is called.
INTERPOLATED = ("ee_pose", "gripper", "joint_states")
FOLLOW_MOTION = ("ee_pose", "joint_states")  # those that change while the arm moves
AFTER = "_after"
NEAR = "ee_pose_near_"  # begins the names of the poses around the stamp of another stream, see ``pose_near``


def image_streams(extra_images: Iterable[str]) -> list[str]:
    """``image`` and those of more cameras, each followed by its camera info.

    Args:
        extra_images: image_1, image_2, ...; an empty name stands for none.

    Raises:
        ValueError: another name, or one twice.
    """
    names = ["image"]
    for name in filter(None, extra_images):
        if not EXTRA_IMAGE.fullmatch(name) or name in names:
            raise ValueError(f"extra_images has {name!r}: image_1 to image_9, each once")
        names.append(name)
    return [stream for name in names for stream in (name, info_of(name))]


def info_of(stream: str) -> str:
    """The stream of an image's camera info."""
    return "camera_info" if stream == "image" else stream + INFO


def pose_near(stream: str) -> str:
    """How the pose at the stamp of an image or a cloud is called, where it is not that of ``ee_pose``."""
    return NEAR + stream


def source_of(stream: str) -> str:
    """The stream that a matched message came on: ee_pose of ee_pose_after and ee_pose_near_image_1."""
    return "ee_pose" if stream.startswith(NEAR) else stream.removesuffix(AFTER)


def is_image(stream: str) -> bool:
    """Whether a stream has colour images: image, image_1, ..."""
    return stream == "image" or EXTRA_IMAGE.fullmatch(stream) is not None


def cloud_streams(source: str, depth_registered: bool, extra_clouds: Iterable[str]) -> list[str]:
    """Streams that points come from, each depth image followed by its camera info.

    Args:
        source: depth or points. depth_registered: that depth has frame and camera info of the colour image.
        extra_clouds: depth_1, points_2, ... of more cameras; an empty name stands for none.

    Raises:
        ValueError: another name, or one twice.
    """
    names = [source]
    for name in extra_clouds:
        if not name:
            continue
        if not EXTRA_CLOUD.fullmatch(name) or name in names:
            raise ValueError(f"extra_clouds has {name!r}: depth_1 to depth_9 and points_1 to points_9, each once")
        names.append(name)
    own_info = [name for name in names if name.startswith("depth") and not (name == "depth" and depth_registered)]
    return [stream for name in names for stream in ([name, name + INFO] if name in own_info else [name])]


def is_cloud(stream: str) -> bool:
    """Whether points come from a stream: depth, points, depth_1, ..."""
    return stream in ("depth", "points") or EXTRA_CLOUD.fullmatch(stream) is not None


def is_camera_info(stream: str) -> bool:
    """Whether a stream is the camera info of an image; of those the latest counts, whatever its stamp."""
    return stream.endswith("camera_info")
