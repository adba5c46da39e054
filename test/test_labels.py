"""Actions of every form, from a recorded path whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import make_observation
from scipy.spatial.transform import Rotation

from mvla_pruned_ros.bags.labels import labelled
from mvla_pruned_ros.bags.observations import BagFrame, BagSignal
from mvla_pruned_ros.control.action_spaces import ActionForm
from mvla_pruned_ros.types import ActionSpace

STEP_S, CHUNK, START = 0.05, 4, 10**9
VELOCITY, TURNING = np.array([0.1, -0.2, 0.05]), np.array([0.0, 0.3, 0.8])
FIRST = Rotation.from_euler("xyz", [np.pi - 0.02, 0.1, 0.4])  # Euler angles pass pi on the way
JOINTS = np.array([0.3, -0.1, 0.2])  # rad/s
TIMES = START + np.arange(0, 700_000_000, 10_000_000)


def pose_at(time_ns: int) -> np.ndarray:
    s = (time_ns - START) * 1e-9
    return np.append(VELOCITY * s, (Rotation.from_rotvec(TURNING * s) * FIRST).as_quat() * (-1) ** (time_ns // 10**7))


def events(*roles: str) -> Iterator[BagFrame | BagSignal]:
    """A frame at the start, and signals of these roles around it; a quaternion changes its sign at every message."""
    values: dict[str, Any] = {
        "ee_pose": pose_at,
        "twist": lambda t: np.append(VELOCITY, TURNING),
        "joint_states": lambda t: JOINTS * (t - START) * 1e-9,
        "joint_trajectory": lambda t: 2 * JOINTS * (t - START) * 1e-9,
        "gripper_command": lambda t: np.array([1.0 if t >= START + 100_000_000 else -1.0]),
    }
    yield BagFrame(0, True, make_observation(stamp_ns=START))
    for time in TIMES.tolist():
        for role in (*roles, "gripper_command"):
            yield BagSignal(role, 0, time, values[role](time))


def label(form: ActionForm, action_dim: int, *roles: str) -> np.ndarray:
    [(_, actions)] = labelled(events(*roles), (*roles, "gripper_command"), form, action_dim, CHUNK, STEP_S)
    assert actions is not None and actions.shape == (CHUNK, action_dim) and actions.dtype == np.float32
    np.testing.assert_array_equal(actions[:, -1], [-1, -1, 1, 1])
    return actions[:, :-1].astype(float)


def ends() -> list[np.ndarray]:
    return [pose_at(START + round((k + 1) * STEP_S * 1e9)) for k in range(CHUNK)]


@pytest.mark.parametrize("roles", [("twist",), ("ee_pose",)])
def test_velocities_turn_too_from_a_twist_or_from_poses(roles: tuple[str, ...]) -> None:
    expected = np.tile(np.append(VELOCITY, TURNING), (CHUNK, 1))
    np.testing.assert_allclose(label(ActionForm(), 7, *roles), expected, atol=1e-5)
    np.testing.assert_allclose(label(ActionForm(), 4, *roles), expected[:, :3], atol=1e-5)


@pytest.mark.parametrize("roles", [("twist", "ee_pose"), ("ee_pose",)])
@pytest.mark.parametrize("space", ["cartesian_velocity", "cartesian_delta"])
def test_motions_along_the_axes_of_the_tool(roles: tuple[str, ...], space: ActionSpace) -> None:
    got = label(ActionForm(space, frame="tool"), 7, *roles) / (STEP_S if space == "cartesian_delta" else 1)
    for k, action in enumerate(got):
        turn = Rotation.from_quat(pose_at(START + round(k * STEP_S * 1e9))[3:])
        np.testing.assert_allclose(turn.apply(action[:3]), VELOCITY, atol=1e-4)
        np.testing.assert_allclose(turn.apply(action[3:]), TURNING, atol=1e-4)


@pytest.mark.parametrize("rotation", ["rotation_vector", "euler_xyz", "rotation_6d"])
def test_steps_lead_from_pose_to_pose(rotation: Any) -> None:
    from mvla_pruned_ros.geometry.rotations import rotation_of

    got = label(ActionForm("cartesian_delta", rotation), 10 if rotation == "rotation_6d" else 7, "ee_pose")
    np.testing.assert_allclose(got[:, :3], np.tile(VELOCITY * STEP_S, (CHUNK, 1)), atol=1e-6)
    turns = rotation_of(got[:, 3:], rotation)
    np.testing.assert_allclose(turns.as_rotvec(), np.tile(TURNING * STEP_S, (CHUNK, 1)), atol=1e-5)


@pytest.mark.parametrize("position", ["absolute", "step"])
@pytest.mark.parametrize("rotation", ["euler_xyz", "rotation_6d"])
def test_poses_are_where_the_hand_was_at_the_end_of_each_step(rotation: Any, position: Any) -> None:
    from mvla_pruned_ros.geometry.rotations import rotation_of

    form = ActionForm("cartesian_pose", rotation, position=position)
    got = label(form, 10 if rotation == "rotation_6d" else 7, "twist", "ee_pose")  # the twist is not asked
    expected = np.array([pose[:3] for pose in ends()])
    if position == "step":
        expected = np.tile(VELOCITY * STEP_S, (CHUNK, 1))
    np.testing.assert_allclose(got[:, :3], expected, atol=1e-6)
    way = rotation_of(got[:, 3:], rotation) * Rotation.from_quat([pose[3:] for pose in ends()]).inv()
    np.testing.assert_allclose(way.magnitude(), 0, atol=1e-5)


def test_joints_are_learned_from_their_trajectory_or_from_where_they_were() -> None:
    at_the_end = np.outer(STEP_S * np.arange(1, CHUNK + 1), JOINTS)
    position, velocity = ActionForm("joint_position"), ActionForm("joint_velocity")
    np.testing.assert_allclose(label(position, 4, "joint_states"), at_the_end, atol=1e-6)
    np.testing.assert_allclose(label(velocity, 4, "joint_states"), np.tile(JOINTS, (CHUNK, 1)), atol=1e-5)
    np.testing.assert_allclose(label(position, 4, "joint_states", "joint_trajectory"), 2 * at_the_end, atol=1e-6)


def test_pose_without_an_orientation_teaches_no_turn() -> None:
    def without() -> Iterator[BagFrame | BagSignal]:
        for event in events("ee_pose"):
            if isinstance(event, BagSignal) and event.role == "ee_pose":
                event.value[3:] = np.nan
            yield event

    roles = ("ee_pose", "gripper_command")
    for form in (ActionForm(), ActionForm("cartesian_delta"), ActionForm("cartesian_delta", frame="tool")):
        assert [a for _, a in labelled(without(), roles, form, 7, CHUNK, STEP_S)] == [None]
    [(_, actions)] = labelled(without(), roles, ActionForm(), 4, CHUNK, STEP_S)
    assert actions is not None
