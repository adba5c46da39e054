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
        poses: frame -> (4, 4) pose in the base frame, of sensors that stand still. hand: frame -> (4, 4) pose in the
            frame of the end effector, of sensors that it carries.
        lookup: (target, source, stamp in nanoseconds) -> (4, 4) target_from_source, asked for all other frames; raises
            TransformError. None: there are no others.
        end_effector: frame of the end effector, whose pose tf tells; "": messages tell it.
        end_effector_at: stamp in nanoseconds -> (4, 4) pose of the end effector in the base frame, of the messages of
            one observation (``arm_state.with_hand``); raises as ``pose`` does. None: it is not known, or tf tells it.
    """

    base: str
    camera: str
    poses: Mapping[str, np.ndarray] = field(default_factory=dict)
    lookup: Lookup | None = None
    end_effector: str = ""
    hand: Mapping[str, np.ndarray] = field(default_factory=dict)
    end_effector_at: Callable[[int], np.ndarray] | None = None

    def knows(self, frame: str) -> bool:
        """Whether it can be said where a frame is, at some time at least, without asking where the hand is."""
        return frame in self.poses or (self.lookup is not None and bool(frame) and frame not in self.hand)

    def pose(self, frame: str, stamp_ns: int, what: str) -> np.ndarray:
        """(4, 4) base_from_frame when a message was stamped. what: begins the sentence if it is not known.

        Raises:
            ConversionError: a frame of which nothing is known. TransformError: of which nothing is known then.
        """
        if frame in self.poses:
            return self.poses[frame]
        if frame in self.hand and self.end_effector:
            return self.pose(self.end_effector, stamp_ns, what) @ self.hand[frame]
        if frame in self.hand and self.end_effector_at is not None:
            return self.end_effector_at(stamp_ns) @ self.hand[frame]
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


def of_the_hand(
    poses: Mapping[str, np.ndarray], names: Iterable[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Poses of sensors that stand still, and of those that the hand carries.

    Args:
        poses: frame -> (4, 4). names: ``hand_frames``; an empty one stands for none.

    Raises:
        ValueError: a name without a pose.
    """
    names = [name for name in names if name]
    for name in names:
        if name not in poses:
            raise ValueError(
                f"hand_frames has {name!r}, which is neither camera_frame nor one of sensor_frames, only "
                f"{', '.join(map(repr, poses)) or 'nothing'} is: give its pose in the frame of the end effector there"
            )
    still = {name: pose for name, pose in poses.items() if name not in names}
    return still, {name: poses[name] for name in names}


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
