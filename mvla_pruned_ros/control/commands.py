"""What of an action may be sent to a robot, in the form that its controller takes. No ROS.

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

import math
from dataclasses import dataclass
from typing import get_args

import numpy as np
from scipy.spatial.transform import Rotation

from ..types import ActionSpace

BORDER_S = 0.1  # motion towards the border of the workspace is slowed so that it would take at least this long
ROUNDING = 1e-6  # an action at the limit, rounded to float32, is not a clamped one

INTERFACES: dict[str, tuple[ActionSpace, ...]] = {
    "twist": ("cartesian_velocity",),
    "pose": ("cartesian_velocity",),
    "joint_trajectory": ("joint_velocity", "joint_position"),
    "multi_array": ("cartesian_velocity", "joint_velocity", "joint_position"),
}


class MotionRefusedError(RuntimeError):
    """No motion can be commanded from where the robot is, or from where nobody knows it to be; the text says why."""


@dataclass(frozen=True)
class RobotState:
    """What the robot last said of itself; None where it has said nothing that can be used.

    Attributes:
        position: (3,) metres, base frame. orientation: (4,) unit quaternion x y z w of the end effector.
        joints: (N,) positions in the order of the parameter ``joint_names``, rad or m.
    """

    position: np.ndarray | None = None
    orientation: np.ndarray | None = None
    joints: np.ndarray | None = None


@dataclass(frozen=True)
class Limits:
    """What may be sent.

    Attributes:
        max_speed_m_s: per axis. workspace_lower, workspace_upper: box of the end effector, base frame, metres.
        max_angular_speed_rad_s: per axis.
        max_joint_speed: of each joint, rad/s or m/s. joint_lower, joint_upper: positions of the joints, rad or m; one
            number for all of them or one for each.
        lookahead_s: a target, a pose or joint positions, is where the robot shall be after so long; no target lies
            farther from where it is than the speed limit goes in that time.
    """

    max_speed_m_s: float = 1.0
    workspace_lower: tuple[float, ...] = (-10.0, -10.0, -10.0)
    workspace_upper: tuple[float, ...] = (10.0, 10.0, 10.0)
    max_angular_speed_rad_s: float = 1.0
    max_joint_speed: float = 1.0
    joint_lower: tuple[float, ...] = (-2 * math.pi,)
    joint_upper: tuple[float, ...] = (2 * math.pi,)
    lookahead_s: float = 0.1

    def __post_init__(self) -> None:
        for name in ("max_speed_m_s", "max_angular_speed_rad_s", "max_joint_speed", "lookahead_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        for name in ("workspace_lower", "workspace_upper"):
            corner = getattr(self, name)
            if len(corner) != 3 or not all(map(math.isfinite, corner)):
                raise ValueError(f"{name} must be three finite numbers, got {corner}")
        if not all(low < high for low, high in zip(self.workspace_lower, self.workspace_upper)):
            raise ValueError(
                f"workspace_lower {self.workspace_lower} must be below upper {self.workspace_upper} on each axis"
            )
        lower, upper = self.joint_lower, self.joint_upper
        if not lower or not upper or not all(map(math.isfinite, (*lower, *upper))):
            raise ValueError(f"joint_lower and joint_upper must be finite numbers, got {lower} and {upper}")
        if len({len(lower), len(upper)} - {1}) > 1:
            raise ValueError(f"joint_lower has {len(lower)} numbers and joint_upper {len(upper)}: one for each joint")
        if not (np.array(lower) < np.array(upper)).all():
            raise ValueError(f"joint_lower {lower} must be below joint_upper {upper} for each joint")


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


@dataclass(frozen=True)
class Command:
    """What is sent.

    Attributes:
        values: for twist and the multi_array of a Cartesian space (6,) velocity x, y, z in m/s, angular velocity
            x, y, z in rad/s; for pose (7,) position x, y, z in metres, quaternion x y z w; else (N,), one a joint.
        gripper: -1 (open) to 1 (close); None where nothing is to be said to it.
        clamped: whether a limit changed it.
    """

    values: np.ndarray
    gripper: float | None
    clamped: bool = False


def command_of(action: np.ndarray, form: CommandForm, limits: Limits, state: RobotState) -> Command:
    """The command for one action, within the limits.

    Args:
        action: (A,). state: what is measured. Without a position, motion is not kept in the workspace.

    Raises:
        ValueError: not ``form.action_dim`` finite numbers; nothing of it may be sent.
        MotionRefusedError: the command starts from a pose or from joint positions that are not known, or the end
            effector is outside the workspace and joints are moved: which way leads back is not known then.
    """
    action = np.asarray(action, float)
    if action.shape != (form.action_dim,) or not np.isfinite(action).all():
        raise ValueError(f"an action must be {form.action_dim} finite numbers, got {action}")
    motion, gripper = action[:-1], float(np.clip(action[-1], -1, 1))
    if form.of_joints:
        values, clamped = _joint_values(motion, form, limits, state)
    else:
        asked = np.append(motion, np.zeros(6 - len(motion)))
        values = limit_velocity(asked, limits, state.position)
        clamped = _differ(values, asked)
        if form.interface == "pose":
            values, cut = pose_target(values, limits, state)
            clamped = clamped or cut
    return Command(values, gripper, clamped or _differ(gripper, action[-1]))


def hold(form: CommandForm, state: RobotState) -> np.ndarray:
    """Values of the command that keeps the robot where it is: velocity zero, or what was last measured.

    Raises:
        MotionRefusedError: nothing was measured; nothing may be sent.
    """
    if not form.is_target:
        return np.zeros(len(form.joints) if form.of_joints else 6)
    return _joints_of(state).copy() if form.of_joints else np.append(*_pose_of(state))


def leash(held: np.ndarray | None, form: CommandForm, limits: Limits, state: RobotState) -> np.ndarray:
    """What to hold while the robot is stopped: what was measured when it stopped.

    Not what is measured now: an arm that sags a little would be told to stay lower each time. When the robot has been
    moved from there by more than it could be told to go at once, what is measured now, so that it does not jump back.

    Args:
        held: from the last time; None when it has just stopped.

    Raises:
        MotionRefusedError: see ``hold``.
    """
    try:
        now = hold(form, state)
    except MotionRefusedError:
        if held is None:
            raise
        return held
    if held is None or not form.is_target:
        return now
    speed = limits.max_joint_speed if form.of_joints else limits.max_speed_m_s
    size = len(now) if form.of_joints else 3
    far = np.abs(now[:size] - held[:size]).max() > speed * limits.lookahead_s
    if not form.of_joints:
        turned = (Rotation.from_quat(now[3:]) * Rotation.from_quat(held[3:]).inv()).magnitude()
        far = far or turned > limits.max_angular_speed_rad_s * limits.lookahead_s
    return now if far else held


def limit_velocity(velocity: np.ndarray, limits: Limits, position: np.ndarray | None) -> np.ndarray:
    """Clamp (6,) linear and angular velocity, base frame, m/s and rad/s.

    Args:
        position: (3,) of the end effector, metres, base frame; None when it is not known. Motion out of the workspace
            is slowed from ``BORDER_S`` before the border on and cut off beyond it; motion back in is free.
    """
    most = np.repeat([limits.max_speed_m_s, limits.max_angular_speed_rad_s], 3)
    limited = np.clip(velocity, -most, most)
    if position is not None:
        fastest_down = np.minimum((np.asarray(limits.workspace_lower) - position) / BORDER_S, 0)
        fastest_up = np.maximum((np.asarray(limits.workspace_upper) - position) / BORDER_S, 0)
        limited[:3] = np.clip(limited[:3], fastest_down, fastest_up)
    return limited


def pose_target(velocity: np.ndarray, limits: Limits, state: RobotState) -> tuple[np.ndarray, bool]:
    """The pose after ``limits.lookahead_s`` at a velocity, from the measured one on.

    Args:
        velocity: (6,) linear and angular, base frame, within the limits.

    Returns:
        (7,) position, metres, inside the workspace (where the end effector is outside of it: no farther out), and unit
        quaternion x y z w; and whether the workspace changed it.

    Raises:
        MotionRefusedError: the pose is not known.
    """
    position, orientation = _pose_of(state)
    asked = position + velocity[:3] * limits.lookahead_s
    lower, upper = np.minimum(limits.workspace_lower, position), np.maximum(limits.workspace_upper, position)
    target = np.clip(asked, lower, upper)
    turned = (Rotation.from_rotvec(velocity[3:] * limits.lookahead_s) * Rotation.from_quat(orientation)).as_quat()
    if turned @ orientation < 0:  # the same rotation; interpolation is to go the short way
        turned = -turned
    return np.append(target, turned), _differ(target, asked)


def _joint_values(motion: np.ndarray, form: CommandForm, limits: Limits, state: RobotState) -> tuple[np.ndarray, bool]:
    """Velocities or positions, (N,), and whether a limit changed them."""
    position = state.position
    if position is not None and not _inside(position, limits):
        raise MotionRefusedError(
            f"the end effector is at {np.round(position, 3).tolist()}, outside the workspace: joints are not moved "
            "there; move it back by other means"
        )
    joints = _joints_of(state)
    lower, upper = np.minimum(limits.joint_lower, joints), np.maximum(limits.joint_upper, joints)
    step = limits.max_joint_speed * limits.lookahead_s
    if form.space == "joint_position":
        target = np.clip(np.clip(motion, joints - step, joints + step), lower, upper)
        return target, _differ(target, motion)
    velocity = np.clip(motion, -limits.max_joint_speed, limits.max_joint_speed)
    velocity = np.clip(velocity, (lower - joints) / BORDER_S, (upper - joints) / BORDER_S)
    clamped = _differ(velocity, motion)
    if not form.is_target:
        return velocity, clamped
    target = np.clip(joints + velocity * limits.lookahead_s, lower, upper)
    return target, clamped or _differ(target, joints + velocity * limits.lookahead_s)


def _inside(position: np.ndarray, limits: Limits) -> bool:
    return bool((position >= limits.workspace_lower).all() and (position <= limits.workspace_upper).all())


def _joints_of(state: RobotState) -> np.ndarray:
    if state.joints is None:
        raise MotionRefusedError("the positions of the joints are not known")
    return state.joints


def _pose_of(state: RobotState) -> tuple[np.ndarray, np.ndarray]:
    if state.position is None or state.orientation is None:
        raise MotionRefusedError("the pose of the end effector is not known")
    return state.position, state.orientation


def _differ(a: np.ndarray | float, b: np.ndarray | float) -> bool:
    return bool((np.abs(np.asarray(a) - np.asarray(b)) > ROUNDING).any())
