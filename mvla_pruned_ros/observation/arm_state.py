"""Where the arm is at the stamp of an image: as messages say it, in whatever frame, or as tf knows it."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry.rotations import turned_towards
from ..messages.decode import ConversionError, Readers, gripper_opening, pose_to_position, stamp_ns
from ..types import ArmState
from .frames import Frames, TransformError
from .streams import AFTER, FOLLOW_MOTION, source_of

Read = TypeVar("Read")

NORM_TOLERANCE = 1e-2  # of a quaternion
FOR_HAND = "cameras on the hand (hand_frames) cannot be placed without it"
FOR_POLICY = "the policy takes it"


def arm_state(
    stamp: int, messages: Mapping[str, Any], frames: Frames, readers: Readers, last_command: np.ndarray | None
) -> ArmState:
    """The arm at a stamp, on the straight way between two messages, rotations on the sphere.

    Where no message has come that is newer than the image, the arm is believed to go on as between the last two, for at
    most as long as lies between them; the gripper is where it was.

    With cameras on the hand, it is where they go by (``with_hand``).

    Args:
        messages, readers, last_command: see ``observation_of``.

    Raises:
        ConversionError, TransformError: see ``end_effector_pose``, ``gripper_opening``; no orientation where
            ``readers`` ask for it.
    """

    def pose(message: Any) -> tuple[np.ndarray, np.ndarray | None]:
        if readers.orientation:
            check_orientation(message, FOR_POLICY)
        return end_effector_pose(message, stamp, frames)

    def around(stream: str, read: Callable[[Any], Read]) -> tuple[Read, Read, float]:
        """What the two messages near the stamp say, and where it lies: from 0, at the first, to 1, at the second."""
        first, second = messages[stream], messages.get(stream + AFTER)
        if second is None:
            only = read(first)
            return only, only, 0.0
        start, end = stamp_ns(first.header), stamp_ns(second.header)
        beyond = 1.0 if stream in FOLLOW_MOTION else 0.0
        return read(first), read(second), min(max((stamp - start) / (end - start), -beyond), 1 + beyond)

    if frames.end_effector:
        position, orientation = end_effector_pose(None, stamp, frames)
    elif frames.end_effector_at is not None:
        position, orientation = _parts(frames.end_effector_at(stamp))
    else:
        (position, orientation), (p, q), share = around("ee_pose", pose)
        if share:
            position = (position + share * (p - position)).astype(np.float32)
            orientation = None if orientation is None or q is None else turned_towards(orientation, q, share)
    opening, later, share = around("gripper", lambda m: gripper_opening(m, readers.gripper))
    joints = None
    if readers.joints:
        joints, then, way = around("joint_states", lambda m: joint_positions(m, readers.joints))
        joints = joints + way * (then - joints)
    if last_command is None and orientation is not None:
        last_command = np.append(position, orientation)
    return ArmState(position, opening + share * (later - opening), orientation, joints, last_command)


def with_hand(frames: Frames, messages: Mapping[str, Any]) -> Frames:
    """Frames that know where sensors on the hand were, from the poses among the messages of one observation.

    Between two messages the hand goes straight on and turns at an even pace; beyond them it goes on as between them,
    for at most as long as lies between the two.
    """
    if not frames.hand or frames.end_effector or frames.end_effector_at is not None:
        return frames
    found = {stamp_ns(m.header): m for stream, m in messages.items() if source_of(stream) == "ee_pose"}
    times = sorted(found)

    def told(stamp: int) -> tuple[np.ndarray, np.ndarray]:
        check_orientation(found[stamp], FOR_HAND)
        position, orientation = end_effector_pose(found[stamp], stamp, frames)
        assert orientation is not None, "just checked"
        return position.astype(float), orientation

    @cache  # several sensors have one stamp
    def at(stamp: int) -> np.ndarray:
        if stamp in found:
            position, turn = told(stamp)
        else:
            after = min(max(bisect(times, stamp), 1), len(times) - 1)
            first, second = times[after - 1], times[after]
            share = (stamp - first) / (second - first) if second > first else math.inf
            if not -1 <= share <= 2:
                raise TransformError(
                    f"where the hand was at {stamp / 1e9:.3f} s is not known: ~/ee_pose, which cameras on the hand "
                    f"(hand_frames) go by, has {', '.join(f'{time / 1e9:.3f} s' for time in times)} near it"
                )
            (start, towards), (end, turned) = told(first), told(second)
            position, turn = start + share * (end - start), turned_towards(towards, turned, share)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = Rotation.from_quat(turn).as_matrix(), position
        return pose

    return replace(frames, end_effector_at=at)


def joint_positions(message: Any, names: tuple[str, ...]) -> np.ndarray:
    """(N,) positions of these joints in a sensor_msgs/JointState, rad or m, in whatever order they stand there.

    Raises:
        ConversionError: one is missing or not finite.
    """
    positions = dict(zip(message.name, message.position))
    missing = [name for name in names if not np.isfinite(positions.get(name, np.nan))]
    if missing:
        raise ConversionError(
            f"joint states have no position of {', '.join(missing)} (joint_names), only of {', '.join(positions)}"
        )
    return np.array([positions[name] for name in names], float)


def end_effector_pose(message: Any | None, stamp: int, frames: Frames) -> tuple[np.ndarray, np.ndarray | None]:
    """Pose of the end effector in the base frame.

    Args:
        message: geometry_msgs/PoseStamped in the base frame, or in one that ``frames`` knows at its stamp; None: the
            pose is that of ``frames.end_effector`` at a stamp. stamp: of the image, nanoseconds.

    Returns:
        (3,) float32 position in metres; (4,) float64 unit quaternion x y z w, None where the message has none.

    Raises:
        ConversionError: a frame of which nothing is known, or a position that is not finite.
        TransformError: where the frame was then is not known.
    """
    if message is None:
        return _parts(frames.pose(frames.end_effector, stamp, "end effector"))
    orientation = orientation_of(message.pose.orientation)
    frame = message.header.frame_id
    if not frame or frame == frames.base or not frames.knows(frame):
        return pose_to_position(message, frames.base), orientation
    pose = frames.pose(frame, stamp_ns(message.header), "end-effector pose")
    position = pose[:3, :3] @ pose_to_position(message, frame).astype(float) + pose[:3, 3]
    if orientation is not None:
        orientation = (Rotation.from_matrix(pose[:3, :3]) * Rotation.from_quat(orientation)).as_quat()
    return position.astype(np.float32), orientation


def _parts(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(3,) float32 position and (4,) quaternion x y z w of a (4, 4) pose."""
    return pose[:3, 3].astype(np.float32), Rotation.from_matrix(pose[:3, :3]).as_quat()


def check_orientation(message: Any, why: str) -> None:
    """Raises ConversionError when a geometry_msgs/PoseStamped has none. Args: why: it is needed, for the sentence."""
    turn = message.pose.orientation
    if orientation_of(turn) is None:
        length = math.hypot(turn.x, turn.y, turn.z, turn.w)
        raise ConversionError(
            f"end-effector pose (~/ee_pose) has a quaternion of length {length:.3g}, and a rotation has 1: publish "
            f"the orientation with it; {why}"
        )


def orientation_of(quaternion: Any) -> np.ndarray | None:
    """(4,) unit quaternion x y z w of a geometry_msgs/Quaternion; None for one that is no rotation."""
    turn = np.array([quaternion.x, quaternion.y, quaternion.z, quaternion.w])
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(turn))
    return turn / norm if abs(norm - 1) <= NORM_TOLERANCE else None  # false for NaN as well
