"""What the numbers of a gripper mean: which joint of a JointState it is, and the range of the commands it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .layouts import ConversionError

LARGEST = 1e4  # of a position or command: rad, m, or the counts and millimetres of some drivers
SLACK = 0.1  # how far beyond 0..1 an opening that is published as such may lie by calibration
JOINT_SLACK = 0.05  # how far beyond its range a joint may lie, as a share of the range


@dataclass(frozen=True)
class GripperJoint:
    """Where a JointState says how far the gripper is open.

    Attributes:
        name: of the joint, wherever it stands; "": the only one of the message. closed, open: its positions when the
            gripper is closed and open, rad or m; 0 and 1: the message has the opening itself.
    """

    name: str = ""
    closed: float = 0.0
    open: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("gripper_closed", self.closed), ("gripper_open", self.open)):
            if not abs(value) <= LARGEST:  # false for NaN
                raise ValueError(f"{name} must lie in [{-LARGEST:g}, {LARGEST:g}], got {value}")
        if self.closed == self.open:
            raise ValueError(f"gripper_closed and gripper_open are both {self.open}: give two different positions")

    def is_elsewhere(self, message: Any) -> bool:
        """Whether a joint was chosen that a JointState does not have: drivers send those of the arm between."""
        return bool(self.name) and self.name not in message.name


def gripper_opening(message: Any, joint: GripperJoint = GripperJoint()) -> float:
    """Opening, 0 closed to 1 open, of a JointState.

    Raises:
        ConversionError: no position, several joints of which none was chosen, without the one that was, or a position
            far outside the range.
    """
    position = _position(message, joint.name)
    if (joint.closed, joint.open) == (0.0, 1.0):
        if not -SLACK <= position <= 1 + SLACK and joint.name:
            raise ConversionError(
                f"gripper joint {joint.name} is at {position}, no opening from 0 (closed) to 1 (open): set "
                "gripper_closed and gripper_open to its positions when closed and open"
            )
        if not -SLACK <= position <= 1 + SLACK:
            raise ConversionError(
                f"gripper opening is {position}: position[0] must be scaled to 0 (closed) to 1 (open), or "
                "gripper_closed and gripper_open set to the positions of the joint when closed and open"
            )
        return position
    opening = (position - joint.closed) / (joint.open - joint.closed)
    if not -JOINT_SLACK <= opening <= 1 + JOINT_SLACK:
        raise ConversionError(
            f"gripper joint {joint.name or ', '.join(message.name) or '(without name)'} is at {position}, outside "
            f"{joint.closed:g} (gripper_closed) to {joint.open:g} (gripper_open) by more than {JOINT_SLACK:.0%} of the "
            "range: set these two to its positions when closed and open"
        )
    return min(1.0, max(0.0, opening))


def _position(message: Any, name: str) -> float:
    """Of the joint of that name, or of the only one."""
    count, names = len(message.position), ", ".join(message.name)
    if name:
        if name not in message.name:
            raise ConversionError(
                f"gripper state has no joint {name!r} (gripper_joint), its joints are {names or 'without names'}: set "
                "gripper_joint to that of the gripper, or remap ~/gripper to the topic that has it"
            )
        index = list(message.name).index(name)
        if index >= count:
            raise ConversionError(
                f"gripper state has {len(message.name)} names and {count} positions, none for {name!r}: its driver "
                "must publish one position for each name"
            )
        return float(message.position[index])
    if count < 1:
        raise ConversionError("gripper state has no position: position[0] must be the opening, 0 to 1")
    if count > 1 or len(message.name) > 1:
        raise ConversionError(
            f"gripper state has {max(count, len(message.name))} joints ({names or 'without names'}): which is the "
            "gripper is not known; name it in gripper_joint, or publish a JointState with the gripper alone, its "
            "position scaled to 0 (closed) to 1 (open)"
        )
    return float(message.position[0])


@dataclass(frozen=True)
class GripperCommandRange:
    """What a gripper is told: inside the package -1 (open) to 1 (close), and on the wire ``opened`` to ``closed``."""

    opened: float = -1.0
    closed: float = 1.0

    @classmethod
    def of(cls, numbers: Sequence[float]) -> GripperCommandRange:
        """Of the parameter ``gripper_command_range``. Raises ValueError: not two numbers, finite and different."""
        if len(numbers) != 2:
            raise ValueError(f"gripper_command_range takes the value for open and that for closed, got {list(numbers)}")
        if not all(math.isfinite(n) and abs(n) <= LARGEST for n in numbers):
            raise ValueError(
                f"gripper_command_range must be finite and lie in [{-LARGEST:g}, {LARGEST:g}], got {list(numbers)}"
            )
        if numbers[0] == numbers[1]:
            raise ValueError(f"gripper_command_range is {list(numbers)}: open and closed must differ")
        return cls(float(numbers[0]), float(numbers[1]))

    def sent(self, command: float) -> float:
        """What is published for -1 (open) to 1 (close)."""
        if (self.opened, self.closed) == (-1.0, 1.0):
            return command
        share = (command + 1) / 2
        return (1 - share) * self.opened + share * self.closed

    def command(self, sent: float) -> float:
        """-1 (open) to 1 (close) of what was published; beyond the range it is the nearer of the two."""
        if (self.opened, self.closed) != (-1.0, 1.0):
            sent = 2 * (sent - self.opened) / (self.closed - self.opened) - 1
        return sent if math.isnan(sent) else min(1.0, max(-1.0, sent))
