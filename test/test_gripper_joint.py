"""The gripper as drivers have it: fingers in metres or radians among other joints, commands in any range."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mvla_pruned_ros.messages.decode import ConversionError, Readers, gripper_opening
from mvla_pruned_ros.messages.gripper import GripperCommandRange, GripperJoint


def joints(**positions: float) -> Any:
    return SimpleNamespace(name=list(positions), position=np.array(list(positions.values())))


FRANKA = GripperJoint("panda_finger_joint1", 0.0, 0.04)
ROBOTIQ = GripperJoint("robotiq_85_left_knuckle_joint", 0.8, 0.0)  # rad, 0 is open


def test_finger_in_metres_is_found_wherever_it_stands() -> None:
    for message in (
        joints(panda_finger_joint1=0.03, panda_finger_joint2=0.01),
        joints(panda_finger_joint2=0.01, panda_finger_joint1=0.03),
        joints(panda_joint1=1.0, panda_finger_joint1=0.03, panda_joint2=-2.0),
    ):
        assert gripper_opening(message, FRANKA) == pytest.approx(0.75)


def test_gripper_that_closes_with_rising_angle_is_open_at_zero() -> None:
    name = ROBOTIQ.name
    assert [gripper_opening(joints(**{name: at}), ROBOTIQ) for at in (0.0, 0.2, 0.8)] == pytest.approx([1, 0.75, 0])


def test_a_little_beyond_the_range_is_its_end_and_more_is_refused_with_the_remedy() -> None:
    name = FRANKA.name
    assert gripper_opening(joints(**{name: 0.0415}), FRANKA) == 1.0
    assert gripper_opening(joints(**{name: -0.0015}), FRANKA) == 0.0
    for wrong in (0.08, -0.01, math.nan, math.inf):
        with pytest.raises(
            ConversionError, match=f"joint {name} is at .*0.04 .gripper_open.*by more than 5%.*set these"
        ):
            gripper_opening(joints(**{name: wrong}), FRANKA)


def test_only_joint_needs_no_name() -> None:
    message = SimpleNamespace(name=[], position=[0.06])
    assert gripper_opening(message, GripperJoint(closed=0.0, open=0.08)) == pytest.approx(0.75)
    assert gripper_opening(joints(anything=0.02), GripperJoint(closed=0.0, open=0.08)) == pytest.approx(0.25)


def test_opening_published_as_such_is_taken_as_it_is() -> None:
    for value in (0.0, 0.3, 1.0, 1.05, -0.08):
        assert gripper_opening(joints(gripper=value)) == value
    assert gripper_opening(joints(arm=9.0, gripper=1.05), GripperJoint("gripper")) == 1.05
    with pytest.raises(ConversionError, match="opening is 1.2: .*scaled to 0.*gripper_closed"):
        gripper_opening(joints(gripper=1.2))
    with pytest.raises(
        ConversionError, match="joint gripper is at 85.0, no opening .*: set gripper_closed and gripper_o"
    ):
        gripper_opening(joints(arm=0.5, gripper=85.0), GripperJoint("gripper"))


def test_several_joints_without_a_choice_and_a_choice_that_is_not_there_are_refused_with_the_names() -> None:
    message = joints(panda_finger_joint1=0.03, panda_finger_joint2=0.03)
    with pytest.raises(
        ConversionError, match="2 joints .panda_finger_joint1, panda_finger_joint2.*name it in gripper_joint"
    ):
        gripper_opening(message, GripperJoint(closed=0.0, open=0.04))
    with pytest.raises(ConversionError, match="no joint 'finger' .*its joints are panda_finger_joint1, panda_finger_j"):
        gripper_opening(message, GripperJoint("finger"))
    with pytest.raises(ConversionError, match="2 names and 1 positions, none for 'b'"):
        gripper_opening(SimpleNamespace(name=["a", "b"], position=[0.1]), GripperJoint("b"))
    with pytest.raises(ConversionError, match="without names"):
        gripper_opening(SimpleNamespace(name=[], position=[0.1]), GripperJoint("b"))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"closed": 0.5, "open": 0.5}, "gripper_closed and gripper_open are both 0.5"),
        ({"closed": math.nan}, "gripper_closed must lie in"),
        ({"open": math.inf}, "gripper_open must lie in"),
        ({"open": 1e9}, "gripper_open must lie in"),
    ],
)
def test_positions_that_make_no_range_are_refused(values: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        GripperJoint(**values)


def test_commands_are_scaled_to_the_range_and_back() -> None:
    metres = GripperCommandRange.of([0.08, 0.0])
    assert [metres.sent(c) for c in (-1.0, 0.0, 1.0)] == pytest.approx([0.08, 0.04, 0.0])
    assert [metres.command(s) for s in (0.08, 0.02, 0.0)] == pytest.approx([-1, 0.5, 1])
    assert metres.command(0.5) == -1.0 and metres.command(-3.0) == 1.0
    plain = GripperCommandRange()
    for value in np.random.default_rng(0).uniform(-1, 1, 50):
        assert plain.sent(value) == value and plain.command(value) == value
    assert math.isnan(metres.command(math.nan))


@pytest.mark.parametrize(
    ("numbers", "says"),
    [([1.0], "value for open"), ([0.5, 0.5], "must differ"), ([0.0, math.nan], "finite"), ([0.0, 1e7], "lie in")],
)
def test_command_ranges_that_make_no_sense_are_refused(numbers: list[float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        GripperCommandRange.of(numbers)


def test_depth_unit_has_bounds() -> None:
    for wrong in (0.0, 1e-7, 1.5, math.nan):
        with pytest.raises(ValueError, match="depth_unit_m must lie in"):
            Readers(depth_unit_m=wrong)
