"""Pose, gripper and joints: read as the node reads them, and what their numbers say."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..messages.decode import gripper_opening, stamp_ns
from ..observation.arm_state import FOR_HAND, FOR_POLICY, check_orientation, end_effector_pose, joint_positions
from ..observation.frames import Frames
from .evidence import Evidence, Stream
from .finding import Finding, warn

SLOW_POSE_HZ = 50.0  # below it a camera on the hand is placed badly, see docs/your_own_robot.md
OF_A_GRIPPER = re.compile(r"grip|finger|hand|jaw|knuckle|robotiq|claw", re.IGNORECASE)
WIDEST_M = 0.11  # that a two-finger gripper opens


def pose(stream: Stream, evidence: Evidence) -> tuple[list[str], list[Finding]]:
    """Poses of the end effector. Raises ConversionError: they cannot be used."""
    message, expected = stream.newest, evidence.expected
    if evidence.readers.orientation or expected.hand:
        check_orientation(message, FOR_HAND if expected.hand else FOR_POLICY)
    frames = evidence.frames or Frames(expected.base_frame, expected.camera_frame)
    if message.header.frame_id == expected.base_frame or not frames.knows(message.header.frame_id):
        position, _ = end_effector_pose(message, stamp_ns(message.header), frames)
        words = f"at ({', '.join(f'{value:.3f}' for value in position)}) m"
    else:  # where that frame is, is found out with the observation, for which tf may be waited
        words = "in a frame that is looked up"
    facts = [f"frame {message.header.frame_id or '(none)'}", words]
    rate = stream.arrivals.rate_hz
    if expected.hand and rate < SLOW_POSE_HZ:
        found = f"{stream.topic} comes at {rate:.0f} Hz: the cameras on the hand are placed between its poses"
        return facts, [warn(stream.name, found, f"# publish the pose at {SLOW_POSE_HZ:.0f} Hz or more")]
    return facts, []


def gripper(stream: Stream, evidence: Evidence) -> tuple[list[str], list[Finding]]:
    """States of the gripper. Raises ConversionError: they cannot be used."""
    joint = evidence.expected.gripper
    heard = stream.arrivals.messages
    messages = [message for message in heard if not joint.is_elsewhere(message)] or [stream.newest]
    openings = [gripper_opening(message, joint) for message in messages]
    name = joint.name or ", ".join(messages[-1].name)
    positions = [_position(message, joint.name) for message in messages]
    low, high = min(positions), max(positions)
    facts = [
        f"joint {name or '(without name)'} at {_range(low, high, '{:.3f}')}",
        f"{_range(min(openings), max(openings), '{:.0%}')} open",
    ]
    if (joint.closed, joint.open) == (0.0, 1.0) and 0 < high <= WIDEST_M:
        found = (
            f"joint {name} is at {_range(low, high, '{:.3f}')}, which is taken for {openings[-1]:.0%} open: if "
            "these are metres, the policy never sees an open gripper"
        )
        remedy = f"gripper_closed: 0.0\ngripper_open: {0.04 if high <= 0.045 else 0.08}  # its position when open, m"
        return facts, [warn(stream.name, found, remedy)]
    likely = likely_joint(messages[-1])
    if joint.name and not OF_A_GRIPPER.search(joint.name) and likely:
        found = f"gripper_joint is {joint.name!r}, and {likely!r} looks more like a gripper"
        return facts, [warn(stream.name, found, f"gripper_joint: {likely}")]
    return facts, []


def likely_joint(message: Any) -> str:
    """The first joint of a JointState that is named like a gripper's; empty where none is."""
    return next((name for name in message.name if OF_A_GRIPPER.search(name)), "")


def joints(stream: Stream, evidence: Evidence) -> tuple[list[str], list[Finding]]:
    """Positions of the joints that the policy is told. Raises ConversionError: one is missing."""
    names = evidence.readers.joints
    messages = [message for message in stream.arrivals.messages if set(names) <= set(message.name)]
    if not names:
        return ["the policy is not told them"], []
    positions = joint_positions((messages or [stream.newest])[-1], names)
    values = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, positions))
    return [values], []


def _position(message: Any, name: str) -> float:
    return float(message.position[list(message.name).index(name) if name else 0])


def _range(low: float, high: float, form: str) -> str:
    first, last = form.format(low), form.format(high)
    return first if first == last else f"{first} to {last}"


def position_inside(position: np.ndarray, lower: tuple[float, ...], upper: tuple[float, ...]) -> bool:
    """Whether (3,) metres lie in a box."""
    return bool((position >= np.array(lower)).all() and (position <= np.array(upper)).all())
