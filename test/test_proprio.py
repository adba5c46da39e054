"""Features of the arm's state, as policies are told them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mvla_pruned_ros.geometry.rotations import numbers_of, rotation_of
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.proprio import FEATURES, proprio_vector
from mvla_pruned_ros.types import ArmState

TURN = Rotation.from_euler("xyz", [0.3, -0.5, 2.0])
STATE = ArmState(
    np.array([0.1, 0.2, 0.3]), 0.7, TURN.as_quat(), np.array([1.0, -2.0]), np.append([0.4, 0.5, 0.6], TURN.as_quat())
)


def test_features_come_in_the_order_of_the_policy() -> None:
    names = ("gripper", "ee_position", "joint_positions", "last_command_position")
    np.testing.assert_allclose(proprio_vector(STATE, names, 9), [0.7, 0.1, 0.2, 0.3, 1, -2, 0.4, 0.5, 0.6], rtol=1e-6)
    assert proprio_vector(STATE, ("ee_position",), 3).dtype == np.float32


def test_rotation_is_told_as_two_columns_or_angles() -> None:
    matrix = TURN.as_matrix()
    np.testing.assert_allclose(proprio_vector(STATE, ("ee_rotation_6d",), 6), matrix[:, :2].T.ravel(), rtol=1e-6)
    np.testing.assert_allclose(proprio_vector(STATE, ("ee_euler_xyz",), 3), [0.3, -0.5, 2.0], rtol=1e-6)
    np.testing.assert_allclose(proprio_vector(STATE, ("last_command_euler_xyz",), 3), [0.3, -0.5, 2.0], rtol=1e-6)


@pytest.mark.parametrize("feature", ["ee_rotation_6d", "ee_euler_xyz"])
def test_quaternion_and_its_negative_are_told_alike(feature: str) -> None:
    other = dataclasses.replace(STATE, orientation=-TURN.as_quat())
    size = FEATURES[feature][0]
    np.testing.assert_array_equal(proprio_vector(STATE, (feature,), size), proprio_vector(other, (feature,), size))


def test_hand_that_points_down_jumps_in_angles_and_not_in_columns() -> None:
    """What the comment at the features warns of: two turns 0.02 rad apart on either side of pi."""
    turns = Rotation.from_rotvec([[np.pi - 0.01, 0, 0], [np.pi + 0.01, 0, 0]]).as_quat()
    near = [dataclasses.replace(STATE, orientation=turn) for turn in turns]
    angles = [proprio_vector(state, ("ee_euler_xyz",), 3) for state in near]
    columns = [proprio_vector(state, ("ee_rotation_6d",), 6) for state in near]
    assert np.abs(angles[1] - angles[0]).max() > 6 and np.abs(columns[1] - columns[0]).max() < 0.021


@pytest.mark.parametrize(
    "missing, feature, says",
    [
        ("orientation", "ee_rotation_6d", "the orientation of the end effector, which is not known"),
        ("joints", "joint_positions", "joint_positions, which are not known: set the parameter joint_names"),
        ("last_command", "last_command_position", "the last commanded pose, and none is known"),
    ],
)
def test_what_is_not_known_is_named(missing: str, feature: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        proprio_vector(dataclasses.replace(STATE, **{missing: None}), (feature,), 6)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"proprio": ("ee_position", "elbow")}, "proprio must name some of ee_position, .*; got ee_position, elbow"),
        ({"proprio": ("ee_position", "ee_position")}, "each once"),
        ({"proprio": ("ee_position", "ee_rotation_6d")}, "proprio_dim is 4, and ee_position, ee_rotation_6d are 9"),
        ({"views": ()}, "views must name one or more"),
        ({"views": ("image", "image")}, "views must name one or more, each once"),
    ],
)
def test_configuration_that_asks_for_what_there_is_not_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MVLAConfig(**changes)


@pytest.mark.parametrize("form", ["rotation_vector", "euler_xyz", "rotation_6d"])
def test_rotations_and_their_numbers_are_one_another_s_inverse(form: Any) -> None:
    turns = Rotation.random(20, random_state=0)
    again = rotation_of(numbers_of(turns.as_quat(), form), form)
    np.testing.assert_allclose((again * turns.inv()).magnitude(), 0, atol=1e-6)
    unknown = np.full((1, 4), np.nan)
    assert np.isnan(numbers_of(unknown, form)).all()


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"position": np.array([0.0, np.nan, 0.0])}, "position must be 3 finite numbers"),
        ({"orientation": np.zeros(3)}, "orientation must be 4 finite numbers"),
        ({"joints": np.array([np.inf])}, "joints must be N finite numbers"),
        ({"last_command": np.zeros(6)}, "last_command must be 7 finite numbers"),
        ({"gripper": float("nan")}, "gripper must be finite"),
    ],
)
def test_state_that_is_none_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(STATE, **changes)
