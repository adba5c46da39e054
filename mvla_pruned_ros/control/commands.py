"""An action as the command that may be sent, within the limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry.rotations import angle_between, turn_between
from .action_spaces import CommandForm
from .limits import BORDER_S, Limits, limit_velocity

ROUNDING = 1e-6  # an action at the limit, rounded to float32, is not a clamped one


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

    @property
    def pose(self) -> np.ndarray | None:
        """(7,) position and orientation, where both are known."""
        return None if self.position is None or self.orientation is None else np.append(self.position, self.orientation)


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


def command_of(motion: np.ndarray, form: CommandForm, limits: Limits, state: RobotState) -> Command:
    """The command for one motion, see ``motions``, within the limits.

    The end effector is led to a pose at the velocity that would be there after ``limits.goal_s``: where a motion is a
    pose, it is the one for so long ahead.

    Args:
        motion: (M,), the gripper included. state: what is measured. Without a position, motion is not kept in the
            workspace.

    Raises:
        ValueError: not ``form.motion_dim`` finite numbers; nothing of it may be sent.
        MotionRefusedError: the command starts from a pose or from joint positions that are not known, or the end
            effector is outside the workspace and joints are moved: which way leads back is not known then.
    """
    motion = np.asarray(motion, float)
    if motion.shape != (form.motion_dim,) or not np.isfinite(motion).all():
        raise ValueError(f"a motion must be {form.motion_dim} finite numbers, got {motion}")
    wanted, gripper = motion[:-1], float(np.clip(motion[-1], -1, 1))
    if form.of_joints:
        values, clamped = _joint_values(wanted, form, limits, state)
    else:
        asked = _velocity(wanted, form, limits, state)
        # On the way to a pose the direction is what matters; a velocity is limited as the parameter says.
        values = limit_velocity(asked, limits, state.position, straight=form.actions.of_poses)
        clamped = _differ(values, asked)
        if form.interface == "pose":
            values, cut = pose_target(values, limits, state)
            clamped = clamped or cut
    return Command(values, gripper, clamped or _differ(gripper, motion[-1]))


def _velocity(wanted: np.ndarray, form: CommandForm, limits: Limits, state: RobotState) -> np.ndarray:
    """(6,) linear and angular velocity, base frame, that a motion without its gripper asks for."""
    if form.actions.of_poses:
        position, orientation = _pose_of(state)
        return np.append(wanted[:3] - position, turn_between(orientation, wanted[3:])) / limits.goal_s
    asked = np.append(wanted, np.zeros(6 - len(wanted)))
    if form.actions.frame == "tool":
        # As the tool will stand in the middle of the period for which the command is held.
        tool = Rotation.from_quat(_pose_of(state)[1]) * Rotation.from_rotvec(asked[3:] * limits.period_s / 2)
        asked = tool.apply(asked.reshape(2, 3)).ravel()
    return asked


def hold(form: CommandForm, state: RobotState) -> np.ndarray:
    """Values of the command that keeps the robot where it is: velocity zero, or what was last measured.

    Raises:
        MotionRefusedError: nothing was measured; nothing may be sent.
    """
    if not form.is_target:
        return np.zeros(len(form.joints) if form.of_joints else 6)
    return _joints_of(state).copy() if form.of_joints else np.append(*_pose_of(state))


def hold_target(held: np.ndarray | None, form: CommandForm, limits: Limits, state: RobotState) -> np.ndarray:
    """What to hold while the robot is stopped: what was measured when it stopped.

    Not what is measured now: an arm that sags a little would be told to stay lower each time. When the robot has been
    moved from there by more than it could be told to go at once, what is measured now, so that it does not jump back.

    Args:
        held: from the last time; None when it has just stopped.
        state: what is measured now. Without it nothing is held: somebody may have moved the robot meanwhile.

    Raises:
        MotionRefusedError: see ``hold``.
    """
    now = hold(form, state)
    if held is None or not form.is_target:
        return now
    speed = limits.max_joint_speed if form.of_joints else limits.max_speed_m_s
    size = len(now) if form.of_joints else 3
    far = np.abs(now[:size] - held[:size]).max() > speed * limits.lookahead_s
    if not form.of_joints:
        far = far or angle_between(held[3:], now[3:]) > limits.max_angular_speed_rad_s * limits.lookahead_s
    return now if far else held


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
    if position is not None and not limits.contain(position):
        raise MotionRefusedError(
            f"the end effector is at {np.round(position, 3).tolist()}, outside the workspace: joints are not moved "
            "there; move it back by other means"
        )
    joints = _joints_of(state)
    lower, upper = np.minimum(limits.joint_lower, joints), np.maximum(limits.joint_upper, joints)
    step = limits.max_joint_speed * limits.lookahead_s
    if form.actions.space == "joint_position":
        target = np.clip(np.clip(motion, joints - step, joints + step), lower, upper)
        return target, _differ(target, motion)
    velocity = np.clip(motion, -limits.max_joint_speed, limits.max_joint_speed)
    velocity = np.clip(velocity, (lower - joints) / BORDER_S, (upper - joints) / BORDER_S)
    clamped = _differ(velocity, motion)
    if not form.is_target:
        return velocity, clamped
    target = np.clip(joints + velocity * limits.lookahead_s, lower, upper)
    return target, clamped or _differ(target, joints + velocity * limits.lookahead_s)


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
