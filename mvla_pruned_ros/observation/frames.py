"""Where each sensor stands in the base frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..messages.layouts import ConversionError

NUMBERS = 7  # of a pose: x y z, quaternion x y z w
Lookup = Callable[[str, str, int], np.ndarray]


class TransformError(ConversionError):
    """The pose of a frame at the stamp of a message is not known (yet); the text says which and when."""


@dataclass(frozen=True)
class Frames:
    """What frame names mean.

    Attributes:
        base: frame of commands, and the one that end-effector poses become. camera: optical frame of the colour image.
        poses: frame -> (4, 4) pose in the base frame, of sensors that stand still.
        lookup: (target, source, stamp in nanoseconds) -> (4, 4) target_from_source, asked for all other frames; raises
            TransformError. None: there are no others.
        end_effector: frame of the end effector, whose pose tf tells; "": messages tell it.
    """

    base: str
    camera: str
    poses: Mapping[str, np.ndarray] = field(default_factory=dict)
    lookup: Lookup | None = None
    end_effector: str = ""

    def knows(self, frame: str) -> bool:
        """Whether it can be said where a frame is, at some time at least."""
        return frame in self.poses or (self.lookup is not None and bool(frame))

    def pose(self, frame: str, stamp_ns: int, what: str) -> np.ndarray:
        """(4, 4) base_from_frame when a message was stamped. what: begins the sentence if it is not known.

        Raises:
            ConversionError: a frame of which nothing is known. TransformError: of which nothing is known then.
        """
        if frame in self.poses:
            return self.poses[frame]
        if self.lookup is not None and frame:
            return self.lookup(self.base, frame, stamp_ns)
        known = ", ".join(repr(name) for name in (self.base, *self.poses))
        raise ConversionError(
            f"{what} is in frame {frame!r}, and where that is is not known, only {known}: set the parameters "
            "base_frame, camera_frame and extrinsics.* to match, or sensor_frames and sensor_extrinsics"
        )


def pose_of(translation: Any, rotation_xyzw: Any) -> np.ndarray:
    """(4, 4) base_from_camera of extrinsics: three metres, and a quaternion x y z w.

    Raises:
        ValueError: not given (identity would be a guess), not of these lengths, or no unit quaternion.
    """
    if len(translation) != 3 or len(rotation_xyzw) != 4:
        raise ValueError(
            f"extrinsics.translation takes 3 numbers and extrinsics.rotation_xyzw 4, got {list(translation)} and "
            f"{list(rotation_xyzw)}"
        )
    if not np.isfinite([*translation, *rotation_xyzw]).all():
        raise ValueError(
            "extrinsics.translation and extrinsics.rotation_xyzw are not set: give the pose of the camera's optical "
            "frame in the base frame (metres; quaternion x y z w)"
        )
    norm = float(np.linalg.norm(rotation_xyzw))
    if abs(norm - 1) > 1e-2:
        raise ValueError(f"extrinsics.rotation_xyzw {list(rotation_xyzw)} has length {norm:.3f}, a quaternion needs 1")
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(rotation_xyzw).as_matrix()
    pose[:3, 3] = translation
    return pose


def sensor_poses(names: Iterable[str], numbers: Sequence[float]) -> dict[str, np.ndarray]:
    """Frame -> (4, 4) pose of ``sensor_frames`` and ``sensor_extrinsics``; an empty name stands for none.

    Raises:
        ValueError: not seven numbers a frame, or no pose (see ``pose_of``).
    """
    names = [name for name in names if name]
    given = [float(number) for number in numbers] if names or np.isfinite(numbers).any() else []
    if len(given) != NUMBERS * len(names):
        raise ValueError(
            f"sensor_extrinsics has {len(given)} numbers, sensor_frames {len(names)} names: give x y z qx qy qz qw for "
            "each, one after the other"
        )
    poses = {}
    for i, name in enumerate(names):
        pose = given[NUMBERS * i : NUMBERS * (i + 1)]
        try:
            poses[name] = pose_of(pose[:3], pose[3:])
        except ValueError as error:
            raise ValueError(f"sensor_extrinsics of {name}: {error}") from error
    return poses
