"""What the values of an action mean, and which command interfaces can carry them.

An action space says what the values of a policy's actions mean, a command interface what the controller is told:

======================  ============================================================  =================================
action space            values of an action                                           command interfaces
======================  ============================================================  =================================
``cartesian_velocity``  velocity x, y, z (m/s), or that and angular velocity x, y, z  twist, pose, multi_array
                        (rad/s), in the base frame; gripper
``cartesian_pose``      step x, y, z (m) from where the end effector is, absolute     none: the node cannot feed such a
                        Euler angles, gripper (upstream's MLA)                        policy
``joint_velocity``      velocity of each joint (rad/s or m/s), gripper                joint_trajectory, multi_array
``joint_position``      position of each joint (rad or m), gripper                    joint_trajectory, multi_array
======================  ============================================================  =================================

The gripper is the last value, -1 (open) to 1 (close).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ..types import ActionSpace

INTERFACES: dict[str, tuple[ActionSpace, ...]] = {
    "twist": ("cartesian_velocity",),
    "pose": ("cartesian_velocity",),
    "joint_trajectory": ("joint_velocity", "joint_position"),
    "multi_array": ("cartesian_velocity", "joint_velocity", "joint_position"),
}


@dataclass(frozen=True)
class CommandForm:
    """How actions become commands: from which action space to which interface.

    Attributes:
        interface: one of ``INTERFACES``. space: one of ``ActionSpace``. action_dim: values of an action, the gripper
            included. joints: names; none for a Cartesian space.
    """

    interface: str
    space: ActionSpace
    action_dim: int
    joints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.space not in get_args(ActionSpace):
            raise ValueError(f"action_space {self.space!r} must be one of {', '.join(get_args(ActionSpace))}")
        if self.interface not in INTERFACES:
            raise ValueError(f"command_interface {self.interface!r} must be one of {', '.join(INTERFACES)}")
        if self.space not in INTERFACES[self.interface]:
            able = [name for name, spaces in INTERFACES.items() if self.space in spaces]
            raise ValueError(
                f"command_interface {self.interface} cannot carry actions of the space {self.space}, which this policy "
                f"gives: {' or '.join(able) + ' can' if able else 'no interface can'}"
            )
        if self.space == "cartesian_velocity" and self.action_dim not in (4, 7):
            raise ValueError(
                f"the policy gives {self.action_dim} values per action: 4 (velocity x, y, z and gripper) or 7 "
                "(velocity x, y, z, angular velocity x, y, z and gripper) can be sent"
            )
        if self.of_joints:
            if not self.joints:
                raise ValueError(f"actions of the space {self.space} move joints: name them in joint_names, in order")
            if len(set(self.joints)) != len(self.joints):
                raise ValueError(f"joint_names has a name twice: {', '.join(self.joints)}")
            if self.action_dim != len(self.joints) + 1:
                raise ValueError(
                    f"the policy gives {self.action_dim} values per action, {self.action_dim - 1} joints and the "
                    f"gripper; joint_names has {len(self.joints)}: {', '.join(self.joints)}"
                )

    @property
    def of_joints(self) -> bool:
        """Whether joints are moved, and not the end effector."""
        return self.space.startswith("joint_")

    @property
    def is_target(self) -> bool:
        """Whether a command says where the robot shall be, and not how fast it shall move."""
        return self.interface in ("pose", "joint_trajectory") or self.space == "joint_position"
