"""What the values of an action mean, and which command interfaces can carry them.

An action space says what the values of a policy's actions mean, a command interface what the controller is told:

======================  ============================================================  =================================
action space            values of an action                                           command interfaces
======================  ============================================================  =================================
``cartesian_velocity``  velocity x, y, z (m/s), or that and angular velocity x, y, z  twist, pose, multi_array
                        (rad/s); gripper. Held over its step
``cartesian_delta``     step x, y, z (m), or that and a rotation; gripper. Made over  twist, pose, multi_array
                        its step at an even velocity
``cartesian_pose``      position x, y, z (m) and rotation, where the end effector     twist, pose, multi_array
                        shall be at the end of its step; gripper
``joint_velocity``      velocity of each joint (rad/s or m/s), gripper                joint_trajectory, multi_array
``joint_position``      position of each joint (rad or m), gripper                    joint_trajectory, multi_array
======================  ============================================================  =================================

The gripper is the last value, -1 (open) to 1 (close). ``ActionForm`` tells the variants of the Cartesian spaces apart.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, get_args

from ..types import ActionFrame, ActionPosition, ActionRotation, ActionSpace

_CARTESIAN: tuple[ActionSpace, ...] = ("cartesian_velocity", "cartesian_delta", "cartesian_pose")
INTERFACES: dict[str, tuple[ActionSpace, ...]] = {
    "twist": _CARTESIAN,
    "pose": _CARTESIAN,
    "joint_trajectory": ("joint_velocity", "joint_position"),
    "multi_array": (*_CARTESIAN, "joint_velocity", "joint_position"),
}
_WORDS = {"space": ActionSpace, "rotation": ActionRotation, "frame": ActionFrame, "position": ActionPosition}
# Which spaces take a value that is not the default.
_ONLY_WITH: dict[str, tuple[ActionSpace, ...]] = {
    "euler_xyz": ("cartesian_delta", "cartesian_pose"),
    "rotation_6d": ("cartesian_delta", "cartesian_pose"),
    "tool": ("cartesian_velocity", "cartesian_delta"),
    "step": ("cartesian_pose",),
}
_LINEAR = {"cartesian_velocity": "velocity x, y, z", "cartesian_delta": "step x, y, z", "absolute": "position x, y, z",
           "step": "step x, y, z"}  # fmt: skip
_ANGULAR = {"rotation_vector": "rotation vector x, y, z", "euler_xyz": "Euler angles x, y, z",
            "rotation_6d": "two columns of the rotation matrix"}  # fmt: skip


@dataclass(frozen=True)
class ActionForm:
    """What the values of an action mean: the attributes ``action_*`` of a policy, or the keys of its configuration.

    Attributes:
        space: see the module.
        rotation: ``rotation_vector`` (rad; of an angular velocity rad/s), ``euler_xyz`` (rad, about the *fixed* axes x,
            then y, then z, which is ``Rotation.from_euler("xyz")`` of scipy and what upstream's MLA learns) or
            ``rotation_6d`` (the first column of the rotation matrix, then the second; Zhou et al. 2019).
        frame: velocities and deltas are along the axes of the ``base``, or of the ``tool`` as it stands.
        position: of ``cartesian_pose``: ``absolute``, or a ``step`` from where the action before leads, the first from
            where the end effector was at the observation. The rotation is absolute in both.
    """

    space: ActionSpace = "cartesian_velocity"
    rotation: ActionRotation = "rotation_vector"
    frame: ActionFrame = "base"
    position: ActionPosition = "absolute"

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
            value = getattr(self, name)
            if value not in get_args(words):
                raise ValueError(f"action_{name} {value!r} must be one of {', '.join(get_args(words))}")
            spaces = _ONLY_WITH.get(value, (self.space,))
            if self.space not in spaces:
                raise ValueError(
                    f"action_{name} {value} does not go with action_space {self.space}: leave it out, or use "
                    f"{' or '.join(spaces)}"
                )
        if self.space == "cartesian_pose" and self.rotation == "rotation_vector":
            raise ValueError("action_space cartesian_pose needs action_rotation: euler_xyz or rotation_6d")

    @classmethod
    def of(cls, policy: Any) -> ActionForm:
        """Of a policy or its configuration, either with attributes ``action_*``; what is absent has its default."""
        words: dict[str, Any] = {
            f.name: getattr(policy, f"action_{f.name}", f.default) for f in dataclasses.fields(cls)
        }
        return cls(**words)

    @property
    def of_joints(self) -> bool:
        """Whether joints are moved, and not the end effector."""
        return self.space.startswith("joint_")

    @property
    def of_poses(self) -> bool:
        """Whether an action says where the end effector shall be, and not how it shall move."""
        return self.space == "cartesian_pose"

    def __str__(self) -> str:
        """For the log: the space, and what differs between its variants."""
        words = {
            "step of the position": self.position == "step",
            self.rotation: self.of_poses or self.space == "cartesian_delta",
            "tool frame": self.frame == "tool",
        }
        told = ", ".join(word for word, holds in words.items() if holds)
        return f"{self.space} ({told})" if told else self.space

    def check_dim(self, action_dim: int) -> None:
        """Raises ValueError when an action of a Cartesian space does not have so many values, gripper included."""
        linear = _LINEAR[self.position if self.of_poses else self.space]
        angular = "angular velocity x, y, z" if self.space == "cartesian_velocity" else _ANGULAR[self.rotation]
        turning = 10 if self.rotation == "rotation_6d" else 7
        fitting = {4: f"{linear} and gripper"} if not self.of_poses else {}
        fitting[turning] = f"{linear}, {angular} and gripper"
        if action_dim not in fitting:
            options = " or ".join(f"{size} ({values})" for size, values in fitting.items())
            raise ValueError(f"the policy gives {action_dim} values per action: {options} can be sent")


@dataclass(frozen=True)
class CommandForm:
    """How actions become commands: from which form of actions to which interface.

    Attributes:
        interface: one of ``INTERFACES``. actions: what their values mean. action_dim: values of an action, the gripper
            included. joints: names; none for a Cartesian space.
    """

    interface: str
    actions: ActionForm
    action_dim: int
    joints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        space = self.actions.space
        if self.interface not in INTERFACES:
            raise ValueError(f"command_interface {self.interface!r} must be one of {', '.join(INTERFACES)}")
        if space not in INTERFACES[self.interface]:
            able = [name for name, spaces in INTERFACES.items() if space in spaces]
            raise ValueError(
                f"command_interface {self.interface} cannot carry actions of the space {space}, which this policy "
                f"gives: {' or '.join(able)} can"
            )
        if not self.of_joints:
            self.actions.check_dim(self.action_dim)
            return
        if not self.joints:
            raise ValueError(f"actions of the space {space} move joints: name them in joint_names, in order")
        if len(set(self.joints)) != len(self.joints):
            raise ValueError(f"joint_names has a name twice: {', '.join(self.joints)}")
        if self.action_dim != len(self.joints) + 1:
            raise ValueError(
                f"the policy gives {self.action_dim} values per action, {self.action_dim - 1} joints and the "
                f"gripper; joint_names has {len(self.joints)}: {', '.join(self.joints)}"
            )

    def __str__(self) -> str:
        """For the log: what comes in and what goes out."""
        return f"{self.actions} as {self.interface}"

    @property
    def of_joints(self) -> bool:
        """Whether joints are moved, and not the end effector."""
        return self.actions.of_joints

    @property
    def motion_dim(self) -> int:
        """Values of a motion, the gripper included, see ``motions``."""
        return 8 if self.actions.of_poses else self.action_dim

    @property
    def is_target(self) -> bool:
        """Whether a command says where the robot shall be, and not how fast it shall move."""
        return self.interface in ("pose", "joint_trajectory") or self.actions.space == "joint_position"
