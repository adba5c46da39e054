"""One trajectory, told in every form of actions, moves a kinematic arm to the same pose; limits and splices on the way.

The arm is told by the code that the node runs (chunk buffer, splicer, commands); only ROS and the policy are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mvla_pruned_ros.control.action_spaces import ActionForm, CommandForm
from mvla_pruned_ros.control.chunk_buffer import ChunkBuffer
from mvla_pruned_ros.control.commands import RobotState, command_of
from mvla_pruned_ros.control.limits import SPEED_LIMITS, Limits, limit_velocity
from mvla_pruned_ros.control.motions import motions_of, parts_of
from mvla_pruned_ros.control.splicer import CATCH_UP, LEAST_SHARE, Splicer
from mvla_pruned_ros.geometry.rotations import angle_between, rotation_of
from mvla_pruned_ros.types import ActionChunk

STEP_S, CHUNK, LATE_S, REPLAN_S = 0.05, 12, 0.03, 0.2
VELOCITY, DELTA, TOOL_DELTA = ActionForm(), ActionForm("cartesian_delta"), ActionForm("cartesian_delta", frame="tool")
EULER, SIX_D = ActionForm("cartesian_pose", "euler_xyz"), ActionForm("cartesian_pose", "rotation_6d")
MLA = ActionForm("cartesian_pose", "euler_xyz", position="step")
FORMS = (VELOCITY, DELTA, TOOL_DELTA, EULER, SIX_D, MLA)
FAST = Limits(10.0, max_angular_speed_rad_s=10.0)


def pose_of(position: np.ndarray, rotation: Rotation) -> np.ndarray:
    return np.concatenate([position, rotation.as_quat()])


@dataclass(frozen=True)
class Trajectory:
    """An arc that begins and ends at rest and turns on its way. turn: from first to last, rotation vector, rad."""

    first: Rotation = Rotation.identity()
    turn: tuple[float, float, float] = (0.4, -0.3, 0.9)
    duration_s: float = 2.0

    def __call__(self, time_s: float) -> np.ndarray:
        """(7,) pose; the last one after the end."""
        share = np.clip(time_s / self.duration_s, 0, 1)
        share = share * share * (3 - 2 * share)
        position = np.array([0.4, 0.0, 0.3]) + 0.2 * np.array([np.sin(2 * share), 1 - np.cos(2 * share), -share / 2])
        return pose_of(position, Rotation.from_rotvec(share * np.array(self.turn)) * self.first)


def chunk_of(way: Callable[[float], np.ndarray], form: ActionForm, stamp_s: float, measured: np.ndarray) -> ActionChunk:
    """What a perfect policy answers to an observation at ``stamp_s`` of an arm at ``measured``, (7,)."""
    poses = np.array([measured, *(way(stamp_s + k * STEP_S) for k in range(1, CHUNK + 1))])
    turns = Rotation.from_quat(poses[:, 3:])
    if form.of_poses:
        position = np.diff(poses[:, :3], axis=0) if form.position == "step" else poses[1:, :3]
        columns = turns[1:].as_matrix()[:, :, :2].swapaxes(1, 2).reshape(CHUNK, 6)
        values = np.hstack([position, columns if form is SIX_D else turns[1:].as_euler("xyz")])
    else:
        values = np.hstack([np.diff(poses[:, :3], axis=0), (turns[1:] * turns[:-1].inv()).as_rotvec()])
        if form.frame == "tool":  # over a step the tool turns, and the motion in its frame with it: half of the turn
            middle = Rotation.from_rotvec(values[:, 3:] / 2) * turns[:-1]
            values = np.hstack([middle.inv().apply(values[:, :3]), middle.inv().apply(values[:, 3:])])
        if form.space == "cartesian_velocity":
            values = values / STEP_S
    actions = np.hstack([values, np.zeros((CHUNK, 1))]).astype(np.float32)
    return ActionChunk(round(stamp_s * 1e9), STEP_S, actions, measured[:3])


@dataclass
class Arm:
    """Moves by each command as it is told: at a velocity, or towards a pose as a controller of ``lookahead_s`` does."""

    pose: np.ndarray
    limits: Limits = FAST
    motions: list[np.ndarray] = field(default_factory=list)
    sent: list[np.ndarray] = field(default_factory=list)
    joined: list[int] = field(default_factory=list)

    def drive(
        self, form: CommandForm, answer: Callable[[float, np.ndarray], ActionChunk], rate_hz: int, seconds: float
    ) -> Arm:
        """answer: the chunk for an observation at that time of the arm at that pose; it comes ``LATE_S`` later."""
        buffer, splicer, pending = ChunkBuffer(), Splicer(form.actions), list[ActionChunk]()
        period_s, observed = 1 / rate_hz, -1
        self.limits = replace(self.limits, period_s=period_s)
        chunk: ActionChunk | None = None
        for tick in range(round(seconds * rate_hz)):
            now_s = tick * period_s
            if int(now_s / REPLAN_S + 1e-9) > observed:
                observed = int(now_s / REPLAN_S + 1e-9)
                pending.append(answer(now_s, self.pose.copy()))
            while pending and (pending[0].stamp_ns / 1e9 + LATE_S <= now_s or observed == 0):
                buffer.put(pending.pop(0), buffer.generation)
            due = buffer.due(round(now_s * 1e9))
            assert due is not None
            if due[0] is not chunk:
                chunk = due[0]
                self.joined.append(tick)
            state = RobotState(self.pose[:3], self.pose[3:])
            motion, _ = splicer.follow(*due, True, round((now_s + self.limits.goal_s) * 1e9), state.pose)
            values = command_of(motion, form, self.limits, state).values
            self.motions.append(motion)
            self.sent.append(values)
            self._move(values, form.is_target, period_s)
        return self

    def _move(self, values: np.ndarray, is_target: bool, period_s: float) -> None:
        orientation = Rotation.from_quat(self.pose[3:])
        if is_target:
            turn = (Rotation.from_quat(values[3:]) * orientation.inv()).as_rotvec()
            values = np.append(values[:3] - self.pose[:3], turn) / self.limits.lookahead_s
        turned = Rotation.from_rotvec(values[3:] * period_s) * orientation
        self.pose = pose_of(self.pose[:3] + values[:3] * period_s, turned)


def command_form(form: ActionForm, interface: str = "twist") -> CommandForm:
    return CommandForm(interface, form, 10 if form.rotation == "rotation_6d" else 7)


# The same trajectory in every form


@pytest.mark.parametrize("rate_hz", [40, 60, 80])
@pytest.mark.parametrize("interface", ["twist", "pose"])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_of_the_same_trajectory_leads_to_the_same_pose(
    form: ActionForm, interface: str, rate_hz: int
) -> None:
    way = Trajectory()
    arm = Arm(way(0)).drive(command_form(form, interface), lambda s, at: chunk_of(way, form, s, at), rate_hz, 3.0)
    assert len(arm.joined) > 10, "of several chunks"
    assert np.linalg.norm(arm.pose[:3] - way(3)[:3]) < 1e-3
    assert np.degrees(angle_between(arm.pose[3:], way(3)[3:])) < 0.5


@pytest.mark.parametrize("form", [EULER, SIX_D, MLA], ids=str)
def test_end_effector_is_at_each_pose_at_the_end_of_its_step(form: ActionForm) -> None:
    """Not a step late, and not early by the time that targets lie ahead."""
    way = Trajectory()
    arm = Arm(way(0)).drive(command_form(form), lambda s, at: chunk_of(way, form, s, at), 80, 1.2)
    assert np.linalg.norm(arm.pose[:3] - way(1.2)[:3]) < 2e-3 < np.linalg.norm(way(1.2)[:3] - way(1.15)[:3]) / 3
    assert angle_between(arm.pose[3:], way(1.2)[3:]) < 0.01 < angle_between(way(1.2)[3:], way(1.15)[3:]) / 3


@pytest.mark.parametrize("interface", ["twist", "pose"])
@pytest.mark.parametrize("first", [Rotation.from_euler("x", np.pi - 0.3), Rotation.from_euler("z", -np.pi + 0.3)])
def test_euler_angles_that_jump_at_pi_do_not_make_commands_jump(first: Rotation, interface: str) -> None:
    way = Trajectory(first, turn=(0.9, 0.0, 0.0) if abs(first.as_rotvec()[0]) > 1 else (0.0, 0.0, -0.9))
    chunks: list[ActionChunk] = []

    def answer(stamp_s: float, measured: np.ndarray) -> ActionChunk:
        chunks.append(chunk_of(way, EULER, stamp_s, measured))
        return chunks[-1]

    arm = Arm(way(0)).drive(command_form(EULER, interface), answer, 80, 3.0)
    angles = np.concatenate([chunk.actions[:, 3:6] for chunk in chunks])
    assert np.abs(np.diff(angles, axis=0)).max() > 6, "the angles do jump"
    fastest = max(angle_between(way(s)[3:], way(s + 0.01)[3:]) for s in np.arange(0, 2, 0.01)) / 0.01
    sent = np.array(arm.sent)
    if interface == "twist":
        assert np.linalg.norm(sent[:, 3:], axis=1).max() < 1.05 * fastest
        assert np.linalg.norm(np.diff(sent[:, 3:], axis=0), axis=1).max() < 0.1
    else:
        assert (np.abs(np.linalg.norm(sent[:, 3:], axis=1) - 1) < 1e-6).all()
        assert angle_between(sent[:-1, 3:], sent[1:, 3:]).max() < 1.1 * fastest / 80
    assert angle_between(arm.pose[3:], way(3)[3:]) < np.radians(0.5)


# Where chunks meet


def wandering(seed: int, form: ActionForm) -> Callable[[float, np.ndarray], ActionChunk]:
    """A policy that makes another plan, from another place, at each call: smooth within a chunk."""
    rng = np.random.default_rng(seed)

    def answer(stamp_s: float, measured: np.ndarray) -> ActionChunk:
        turn = rng.normal(0, 0.5, 3)
        way = Trajectory(Rotation.from_rotvec(rng.normal(0, 0.15, 3)), tuple(turn), rng.uniform(0.6, 2.0))
        shift = np.append(rng.normal(0, 0.03, 3), np.zeros(4))
        return chunk_of(lambda s: way(s - stamp_s) + shift, form, stamp_s, measured)

    return answer


@pytest.mark.parametrize("rate_hz", [20, 40, 80])
@pytest.mark.parametrize("form", [EULER, MLA, VELOCITY], ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_at_a_splice_nothing_goes_or_turns_farther_than_the_policys_own_largest_step(
    seed: int, form: ActionForm, rate_hz: int
) -> None:
    answers: list[ActionChunk] = []
    policy = wandering(seed, form)

    def answer(stamp_s: float, measured: np.ndarray) -> ActionChunk:
        answers.append(policy(stamp_s, measured))
        return answers[-1]

    arm = Arm(Trajectory()(0)).drive(command_form(form), answer, rate_hz, 3.0)
    motions = np.array(arm.motions, float)
    share = min(1.0, CATCH_UP / rate_hz / STEP_S) if form.of_poses else 1.0  # of a step, between two commands
    for part in parts_of(form, 7 if form.of_poses else 6):
        largest = [part.way(m[:-1], m[1:]).max() for m in (motions_of(one, form) for one in answers)]
        for k, tick in enumerate(arm.joined[1:], 1):
            gap = part.way(motions[tick - 1], unblended(answers[k], arm, form, tick / rate_hz))
            bound = max(share * max(largest[k - 1], largest[k]), LEAST_SHARE * gap)
            assert part.way(motions[tick - 1], motions[tick]) <= bound + 1e-6


def unblended(chunk: ActionChunk, arm: Arm, form: ActionForm, now_s: float) -> np.ndarray:
    """The motion that a chunk asks for at a time, whatever was before."""
    at_ns = round((now_s + arm.limits.goal_s) * 1e9)
    return Splicer(form).follow(chunk, chunk.index_at(round(now_s * 1e9)), False, at_ns)[0].astype(float)


def test_velocity_and_angular_velocity_have_a_bound_each() -> None:
    """Steps of 0.2 m/s do not let it turn faster by 0.2 rad/s at once, where the policy turns by steps of 0.01."""
    rise = np.arange(4)[:, None] * [0.2, 0, 0, 0, 0, 0.01, 0]
    splicer = Splicer(VELOCITY)
    splicer.follow(ActionChunk(0, STEP_S, rise.astype(np.float32)), 0)
    other = ActionChunk(1, STEP_S, (rise + [0.1, 0, 0, 0, 0, 0.1, 0]).astype(np.float32))
    motion, differs = splicer.follow(other, 0)
    assert motion[:6] == pytest.approx([0.1, 0, 0, 0, 0, 0.01]) and differs


def test_a_chunk_of_one_pose_is_reached_at_an_even_pace_over_its_step() -> None:
    first = Trajectory()(0)
    goal = np.append(first[:3] + [0.1, 0, 0], [0.0, 0.0, 1.0, 0.0]).astype(np.float32)
    splicer, chunk = Splicer(EULER), ActionChunk(0, 1.0, goal[None])
    motions = [splicer.follow(chunk, 0, True, round(s * 1e9), first)[0] for s in (0.0, 0.25, 0.5, 1.0, 1.1)]
    assert [m[0] - first[0] for m in motions] == pytest.approx([0, 0.025, 0.05, 0.1, 0.1], abs=1e-6)
    assert [angle_between(first[3:], m[3:7]) for m in motions] == pytest.approx([0, 0.25, 0.5, 1, 1], abs=1e-6)


# Frames and rotations


def test_step_in_the_frame_of_the_tool_is_the_step_in_that_of_the_base_turned() -> None:
    rng = np.random.default_rng(0)
    for turn in Rotation.random(10, random_state=0):
        step = rng.normal(0, 0.01, 6)
        state = RobotState(np.zeros(3), turn.as_quat())
        in_base = np.append(np.concatenate([turn.apply(step[:3]), turn.apply(step[3:])]), 0.5)
        values = []
        for form, action in ((TOOL_DELTA, np.append(step, 0.5)), (DELTA, in_base)):
            motion, _ = Splicer(form).follow(ActionChunk(0, STEP_S, action[None]), 0)
            values.append(command_of(motion, command_form(form), FAST, state).values)
        assert values[0] == pytest.approx(values[1], abs=1e-6)
        assert values[1] == pytest.approx(in_base[:6] / STEP_S, abs=1e-6)


def test_euler_angles_are_about_fixed_axes_and_six_values_are_two_columns() -> None:
    about = {
        axis: Rotation.from_rotvec(np.eye(3)[i] * angle) for i, (axis, angle) in enumerate(zip("xyz", (0.3, 0.5, -2)))
    }
    expected = about["z"] * about["y"] * about["x"]
    euler = rotation_of(np.array([[0.3, 0.5, -2]]), "euler_xyz")
    columns = rotation_of(
        2 * np.concatenate([expected.as_matrix()[:, 0], expected.as_matrix()[:, 1]])[None], "rotation_6d"
    )
    for found in (euler, columns):
        assert angle_between(expected.as_quat(), found.as_quat()[0]) < 1e-9
    leaning = rotation_of(np.array([[1.0, 0, 0, 0.5, 1, 0]]), "rotation_6d")
    assert leaning.as_matrix()[0] == pytest.approx(np.eye(3)), "columns that are not square to each other are made so"


def test_values_that_are_no_rotation_and_steps_from_nowhere_are_refused() -> None:
    with pytest.raises(ValueError, match="zero or parallel columns"):
        rotation_of(np.array([[1.0, 0, 0, 2, 0, 0]]), "rotation_6d")
    with pytest.raises(ValueError, match="no origin that they begin at"):
        motions_of(ActionChunk(0, STEP_S, np.zeros((2, 7), np.float32)), MLA)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_quaternion_and_its_negative_are_the_same_measurement(sign: int) -> None:
    pose = Trajectory()(1.0)
    motion = np.append(pose, 0.0)
    for form in (command_form(EULER), command_form(EULER, "pose")):
        values = command_of(motion, form, FAST, RobotState(pose[:3], sign * pose[3:])).values
        assert values == pytest.approx(
            np.append(pose[:3], sign * pose[3:]) if form.is_target else np.zeros(6), abs=1e-9
        )


# Limits


@given(st.integers(0, 2**32 - 1), st.sampled_from(list(product(FORMS, ("twist", "pose", "multi_array")))),
       st.sampled_from(SPEED_LIMITS), st.floats(0.002, 1.0))  # fmt: skip
@settings(max_examples=150, deadline=None, derandomize=True)
def test_limits_hold_whatever_the_actions(
    seed: int, how: tuple[ActionForm, str], speed_limit: str, lookahead_s: float
) -> None:
    rng, form = np.random.default_rng(seed), command_form(*how)
    limits = Limits(
        0.3, (-0.2,) * 3, (0.2,) * 3, 0.4, lookahead_s=lookahead_s, speed_limit=speed_limit, period_s=0.0125
    )
    state = RobotState(rng.uniform(-0.2, 0.2, 3), Rotation.random(random_state=seed).as_quat())
    actions = rng.normal(0, rng.choice([0.01, 1, 10]), (3, form.action_dim)).astype(np.float32)
    chunk = ActionChunk(0, STEP_S, actions, state.position)
    motion, _ = Splicer(form.actions).follow(chunk, 1, True, round((STEP_S + limits.goal_s) * 1e9), state.pose)
    command = command_of(motion, form, limits, state)
    assert state.position is not None and state.orientation is not None and abs(command.gripper or 0) <= 1
    values = command.values
    if form.is_target:
        assert (np.abs(values[:3]) <= 0.2 + 1e-9).all() and np.linalg.norm(values[3:]) == pytest.approx(1)
        turn = (Rotation.from_quat(values[3:]) * Rotation.from_quat(state.orientation).inv()).as_rotvec()
        values = np.append(values[:3] - state.position, turn) / lookahead_s
    norms = np.linalg.norm(values.reshape(2, 3), axis=1)
    straight = speed_limit == "norm" or form.actions.of_poses
    assert (norms <= np.array([0.3, 0.4]) * (1 if straight else 3**0.5) + 1e-6).all()
    assert straight or (np.abs(values) <= np.repeat([0.3, 0.4], 3) + 1e-6).all()


def test_limit_of_the_norm_keeps_directions_and_that_of_each_axis_does_not() -> None:
    velocity = np.array([0.6, 0.3, 0.0, 0.1, 0.1, -0.1])
    limits = Limits(0.3, max_angular_speed_rad_s=0.5)
    assert limit_velocity(velocity, limits, None).tolist() == [0.3, 0.3, 0.0, 0.1, 0.1, -0.1]
    whole = limit_velocity(velocity, replace(limits, speed_limit="norm"), None)
    assert np.linalg.norm(whole[:3]) == pytest.approx(0.3) and whole[0] == pytest.approx(2 * whole[1])
    assert whole[3:].tolist() == velocity[3:].tolist(), "one does not slow the other"
    with pytest.raises(ValueError, match="speed_limit must be one of per_axis, norm"):
        Limits(speed_limit="length")
