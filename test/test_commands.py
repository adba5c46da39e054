"""What of an action is sent, in every form: within the limits, or not at all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mvla_pruned_ros.control.action_spaces import INTERFACES, ActionForm, CommandForm
from mvla_pruned_ros.control.commands import MotionRefusedError, RobotState, command_of, hold, hold_target
from mvla_pruned_ros.control.limits import BORDER_S, Limits
from mvla_pruned_ros.policy.mvla.config import MVLAConfig

TWIST = CommandForm("twist", ActionForm(), 4)
POSE = CommandForm("pose", ActionForm(), 7)
ARM = ("shoulder", "elbow")
QUARTER = Rotation.from_euler("z", 90, degrees=True).as_quat()
AT = RobotState(np.array([0.1, 0.2, 0.3]), QUARTER, np.array([0.5, -0.5]))


def joints(interface: str, space: Any) -> CommandForm:
    return CommandForm(interface, ActionForm(space), 3, ARM)


ALL_FORMS = [
    CommandForm(
        interface,
        ActionForm(space, "euler_xyz" if space == "cartesian_pose" else "rotation_vector"),
        len(ARM) + 1 if space.startswith("joint") else 7,
        ARM,
    )
    for interface, spaces in INTERFACES.items()
    for space in spaces
]


def at_rest(form: CommandForm) -> np.ndarray:
    """The motion that asks for nothing of a robot that is ``AT`` its place."""
    return np.append(AT.pose, 0.0) if form.actions.of_poses and AT.pose is not None else np.zeros(form.motion_dim)


def test_velocity_within_limits_is_untouched() -> None:
    command = command_of(np.array([0.1, -0.1, 0.0, 1.0]), TWIST, Limits(), AT)
    assert command.values.tolist() == [0.1, -0.1, 0, 0, 0, 0]
    assert command.gripper == 1.0 and not command.clamped


def test_speed_and_gripper_are_clamped_and_reported() -> None:
    action, limits = np.array([2.0, -2.0, 0.1, 3.0, 0.0, -0.1, -3.0]), Limits(0.5, max_angular_speed_rad_s=0.2)
    command = command_of(action, CommandForm("twist", ActionForm(), 7), limits, RobotState())
    assert command.values == pytest.approx([0.5, -0.5, 0.1, 0.2, 0.0, -0.1])
    assert command.gripper == -1.0 and command.clamped


def test_end_effector_slows_before_the_border_and_may_come_back() -> None:
    limits = Limits(1.0, (-0.1, -0.1, 0.0), (0.1, 0.1, 0.3))
    at = RobotState(np.array([0.09, 0.2, -0.01]))
    command = command_of(np.array([0.8, 0.5, -0.5, 0]), TWIST, limits, at)
    assert command.values[:3] == pytest.approx([0.01 / BORDER_S, 0, 0])
    assert command.clamped
    command = command_of(np.array([-0.8, -0.5, 0.5, 0]), TWIST, limits, at)
    assert command.values[:3] == pytest.approx([-0.8, -0.5, 0.5])
    assert not command.clamped


@pytest.mark.parametrize("form", ALL_FORMS, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_action_that_is_not_finite_or_of_another_length_is_refused_whole(form: CommandForm, bad: float | None) -> None:
    motion = at_rest(form)
    if bad is None:
        motion = np.append(motion, 0.0)
    else:
        motion[1] = bad
    with pytest.raises(ValueError, match=f"{form.motion_dim} finite numbers"):
        command_of(motion, form, Limits(), AT)


# Poses


def test_pose_is_the_measured_one_and_the_motion_of_the_action() -> None:
    action = np.array([0.2, 0.0, -0.1, 0.0, 0.0, 0.5, 1.0])
    command = command_of(action, POSE, Limits(lookahead_s=0.2), AT)
    assert command.values[:3] == pytest.approx([0.1 + 0.04, 0.2, 0.3 - 0.02])
    turned = Rotation.from_quat(command.values[3:])
    assert turned.as_euler("xyz") == pytest.approx([0, 0, math.pi / 2 + 0.1])
    assert not command.clamped


def test_pose_turns_about_the_axes_of_the_base_frame() -> None:
    command = command_of(np.array([0, 0, 0, 0.5, 0, 0, 0]), POSE, Limits(lookahead_s=1.0), AT)
    moved = Rotation.from_quat(command.values[3:]).apply([0, 1, 0])
    # A quarter turn about z has the tool's y at -x of the base, which a turn about the base's x leaves alone.
    assert moved == pytest.approx([-1, 0, 0], abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_pose_is_a_unit_quaternion_inside_the_workspace_within_the_speed_limit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = Limits(0.3, (-0.2,) * 3, (0.2,) * 3, lookahead_s=float(rng.uniform(0.01, 1.0)))
    state = RobotState(rng.uniform(-0.2, 0.2, 3), Rotation.random(random_state=seed).as_quat())
    assert state.position is not None and state.orientation is not None
    values = command_of(rng.normal(0, 1, 7), POSE, limits, state).values
    assert np.linalg.norm(values[3:]) == pytest.approx(1)
    assert values[3:] @ state.orientation >= 0
    assert (np.abs(values[:3]) <= 0.2 + 1e-9).all()
    assert (np.abs(values[:3] - state.position) <= 0.3 * limits.lookahead_s + 1e-9).all()


def test_pose_from_outside_the_workspace_leads_no_farther_out_and_does_not_jump_to_the_border() -> None:
    limits = Limits(0.1, (-0.1,) * 3, (0.1,) * 3, lookahead_s=0.1)
    state = RobotState(np.array([0.5, 0.0, 0.0]), QUARTER)
    assert command_of(np.array([1.0, 0, 0, 0, 0, 0, 0]), POSE, limits, state).values[0] == 0.5
    assert command_of(np.array([-1.0, 0, 0, 0, 0, 0, 0]), POSE, limits, state).values[0] == pytest.approx(0.49)


# Joints


def test_joint_velocity_is_sent_as_it_is_or_as_where_it_leads() -> None:
    action, limits = np.array([0.1, -0.2, 0.0]), Limits(lookahead_s=0.5)
    assert command_of(action, joints("multi_array", "joint_velocity"), limits, AT).values == pytest.approx([0.1, -0.2])
    command = command_of(action, joints("joint_trajectory", "joint_velocity"), limits, AT)
    assert command.values == pytest.approx([0.55, -0.6]) and not command.clamped


@pytest.mark.parametrize("interface", ["joint_trajectory", "multi_array"])
def test_joint_position_goes_no_farther_than_the_speed_limit_and_not_over_the_end(interface: str) -> None:
    form, limits = (
        joints(interface, "joint_position"),
        Limits(max_joint_speed=0.5, lookahead_s=0.2, joint_lower=(-0.55,)),
    )
    command = command_of(np.array([2.0, -2.0, 0.0]), form, limits, AT)
    assert command.values == pytest.approx([0.6, -0.55]) and command.clamped
    command = command_of(np.array([0.45, -0.5, 0.0]), form, limits, AT)
    assert command.values == pytest.approx([0.45, -0.5]) and not command.clamped


def test_joint_velocity_slows_before_the_end_of_each_joint() -> None:
    limits = Limits(joint_lower=(-1.0, -0.51), joint_upper=(0.4, 1.0))
    command = command_of(np.array([0.5, -0.5, 0.0]), joints("multi_array", "joint_velocity"), limits, AT)
    assert command.values == pytest.approx([0.0, -0.01 / BORDER_S]) and command.clamped
    command = command_of(np.array([-0.5, 0.5, 0.0]), joints("multi_array", "joint_velocity"), limits, AT)
    assert command.values == pytest.approx([-0.5, 0.5])


@pytest.mark.parametrize("interface", ["joint_trajectory", "multi_array"])
def test_joints_are_not_moved_while_the_end_effector_is_outside_the_workspace(interface: str) -> None:
    limits = Limits(workspace_upper=(0.05, 1.0, 1.0))
    with pytest.raises(MotionRefusedError, match="outside the workspace"):
        command_of(np.zeros(3), joints(interface, "joint_velocity"), limits, AT)


# What is not known, and what is held


@pytest.mark.parametrize("form", ALL_FORMS, ids=str)
def test_motion_never_starts_from_a_guess(form: CommandForm) -> None:
    motion = at_rest(form)
    if form.of_joints or form.interface == "pose" or form.actions.of_poses:
        with pytest.raises(MotionRefusedError, match="not known"):
            command_of(motion, form, Limits(), RobotState())
    else:
        assert not command_of(motion, form, Limits(), RobotState()).values.any()


@pytest.mark.parametrize("form", ALL_FORMS, ids=str)
def test_safe_command_is_zero_velocity_or_what_was_measured(form: CommandForm) -> None:
    assert AT.position is not None and AT.orientation is not None and AT.joints is not None
    safe = hold(form, AT)
    assert len(safe) == len(command_of(at_rest(form), form, Limits(), AT).values)
    if form.interface == "pose":
        assert safe.tolist() == [*AT.position, *AT.orientation]
    elif form.is_target:
        assert safe.tolist() == AT.joints.tolist()
    else:
        assert not safe.any()
    if form.is_target:
        with pytest.raises(MotionRefusedError):
            hold(form, RobotState())


def test_sagging_arm_is_held_where_it_stopped_and_a_moved_one_where_it_is() -> None:
    limits = Limits(0.1, lookahead_s=0.1)
    held = hold_target(None, POSE, limits, AT)
    assert AT.position is not None
    sagged = RobotState(AT.position - [0, 0, 0.005], AT.orientation)
    assert hold_target(held, POSE, limits, sagged) is held
    moved = RobotState(AT.position - [0, 0, 0.05], AT.orientation)
    assert hold_target(held, POSE, limits, moved)[:3] == pytest.approx([0.1, 0.2, 0.25])
    turned = RobotState(AT.position, np.array([0.0, 0, 0, 1]))
    assert hold_target(held, POSE, limits, turned)[3:].tolist() == [0, 0, 0, 1]
    with pytest.raises(MotionRefusedError):  # somebody may have moved it meanwhile
        hold_target(held, POSE, limits, RobotState())


# What cannot be sent at all


@pytest.mark.parametrize(
    "form, message",
    [
        (
            ("twist", "joint_velocity", 3, ARM),
            "twist cannot carry .*: joint_trajectory or multi_array can",
        ),
        (("joint_trajectory", "cartesian_velocity", 4), "cannot carry .*: twist or pose or multi_array can"),
        (("twist", "cartesian_velocity", 5), r"gives 5 values per action: 4 .* or 7"),
        (("multi_array", "joint_velocity", 4), "name them in joint_names"),
        (("multi_array", "joint_velocity", 8, ARM), "8 values per action, 7 joints and the gripper; joint_names has 2"),
        (("multi_array", "joint_velocity", 3, ("a", "a")), "a name twice"),
        (("servo", "cartesian_velocity", 4), "command_interface 'servo' must be one of twist"),
        (("twist", "velocity", 4), "action_space 'velocity' must be one of cartesian_velocity"),
        (
            ("twist", ActionForm("cartesian_delta"), 14),
            r"14 values .*: 4 \(step x, y, z and gripper\) or 7 \(step x, y, z, rot",
        ),
        (("pose", ActionForm("cartesian_pose", "rotation_6d"), 7), r"7 values .*: 10 \(position x, y, z, two columns"),
        (("pose", ActionForm("cartesian_pose", "euler_xyz"), 4), r"4 values .*: 7 \(position x, y, z, Euler angles"),
        (
            ("joint_trajectory", ActionForm("cartesian_pose", "euler_xyz", position="step"), 7),
            "cannot carry actions of the space cartesian_pose.*: twist or pose or multi_array can",
        ),
    ],
)
def test_combinations_that_make_no_sense_are_refused_with_the_remedy(form: tuple, message: str) -> None:
    interface, actions, *others = form
    with pytest.raises(ValueError, match=message):
        CommandForm(interface, actions if isinstance(actions, ActionForm) else ActionForm(actions), *others)


@pytest.mark.parametrize(
    "words, message",
    [
        ({"rotation": "quaternion"}, "action_rotation 'quaternion' must be one of rotation_vector, euler_xyz, rot"),
        ({"frame": "world"}, "action_frame 'world' must be one of base, tool"),
        ({"position": ["step"]}, "action_position .* must be one of absolute, step"),
        ({"rotation": "euler_xyz"}, "euler_xyz does not go with .* cartesian_velocity: .* or cartesian_pose"),
        ({"space": "joint_velocity", "frame": "tool"}, "action_frame tool does not go with action_space joint_vel"),
        (
            {"space": "cartesian_delta", "position": "step"},
            "step does not go with .*: leave it out, or use cartesian_p",
        ),
        ({"space": "cartesian_pose"}, "cartesian_pose needs action_rotation: euler_xyz or rotation_6d"),
        (
            {"space": "cartesian_pose", "rotation": "euler_xyz", "frame": "tool"},
            "tool does not go with .* cartesian_pose",
        ),
    ],
)
def test_forms_of_actions_that_there_are_not_are_refused_with_the_remedy(words: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ActionForm(**words)
    with pytest.raises(ValueError, match=message):  # nor in a configuration
        MVLAConfig(**{f"action_{name}": value for name, value in words.items()})


@pytest.mark.parametrize(
    "values",
    [
        {"max_speed_m_s": 0.0},
        {"max_speed_m_s": float("nan")},
        {"max_angular_speed_rad_s": -1.0},
        {"lookahead_s": 0.0},
        {"workspace_lower": (0.0, 0.0)},
        {"workspace_upper": (0.0, float("nan"), 1.0)},
        {"workspace_lower": (1.0, 0.0, 0.0), "workspace_upper": (0.5, 1.0, 1.0)},
        {"joint_lower": ()},
        {"joint_lower": (0.0, 7.0)},
        {"joint_upper": (float("inf"),)},
    ],
)
def test_impossible_limits_are_refused(values: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        Limits(**values)


def test_limits_for_different_numbers_of_joints_are_refused() -> None:
    with pytest.raises(ValueError, match="joint_lower has 2 numbers and joint_upper 3"):
        Limits(joint_lower=(0.0, 0.0), joint_upper=(1.0, 1.0, 1.0))
