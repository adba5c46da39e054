"""Bags of robots as they are: tf instead of a pose, twists of the tool, fingers among joints, depth in any unit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bags import BASE, CAMERA, write_bag
from scipy.spatial.transform import Rotation

from mvla_pruned_ros.bags.labels import labelled
from mvla_pruned_ros.bags.observations import BagFrame, BagFrames, BagSignal
from mvla_pruned_ros.bags.reader import Bag
from mvla_pruned_ros.bags.setup import BagSetup
from mvla_pruned_ros.bags.twist_frames import TwistFrames
from mvla_pruned_ros.bags.writer import bag_encoder
from mvla_pruned_ros.control.action_spaces import ActionForm
from mvla_pruned_ros.sim.metaworld.viewpoint import camera_pose
from mvla_pruned_ros.training.from_bags import where_actions_come_from
from mvla_pruned_ros.types import Observation

S, STEP_NS = 10**9, 50_000_000
PUSH, TOOL = "push the puck to the goal", "tool0"
make = bag_encoder()
TURN = Rotation.from_euler("xyz", [0.3, -0.5, 1.2])
Change = Callable[[int, str, Any], Any]


@pytest.fixture
def frames(observation: Callable[..., Observation]) -> list[Any]:
    return [PUSH, *(observation(seed=i, stamp_ns=S + i * STEP_NS) for i in range(4))]


def events_of(folder: Path, **setup: Any) -> tuple[list[Observation], list[BagSignal], BagFrames]:
    if setup.get("extrinsics_source") != "tf":
        setup = {"base_from_camera": camera_pose()} | setup
    with Bag(folder) as bag:
        events = BagFrames(bag, BagSetup(**setup), signals=True)
        got = list(events)
    seen = [event.observation for event in got if isinstance(event, BagFrame)]
    return seen, [event for event in got if isinstance(event, BagSignal)], events


def pose(x: float, y: float, z: float, turn: Rotation = TURN) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn.as_matrix(), (x, y, z)
    return matrix


def named(role: str, act: Callable[[int, Any], Any]) -> Change:
    """A change of one role's messages."""
    return lambda i, name, message: act(i, message) or message if name == role else message


# The gripper


def finger_among_joints(i: int, message: Any) -> None:
    """Every second message is of the arm alone; the fingers stand in other places each time."""
    names = [f"joint{k}" for k in range(7)]
    if i % 2:
        names = [*names[:i], "right_finger", "left_finger", *names[i:]]
    message.name = names
    message.position = np.array([0.03 if n == "left_finger" else 0.5 for n in names])


FINGER = {"gripper_joint": "left_finger", "gripper_open": 0.04}


def test_finger_is_found_among_joints_and_messages_of_the_arm_are_passed_over(
    tmp_path: Path, frames: list[Any]
) -> None:
    write_bag(tmp_path / "bag", frames, change=named("gripper", finger_among_joints))
    seen, signals, events = events_of(tmp_path / "bag", **FINGER)
    assert len(seen) == 4 and events.drops == {}
    np.testing.assert_allclose([o.state.gripper for o in seen], 0.75)
    assert [s.stamp_ns for s in signals if s.role == "gripper"] == [S, S + 2 * STEP_NS]


def test_joint_that_never_comes_is_told_with_the_names_that_do(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "bag", frames, change=named("gripper", finger_among_joints))
    with pytest.raises(
        ValueError, match=r"4 of 4 not used: nothing on /simulator/gripper with joint 'finger'.*joint0.*left_finger"
    ):
        events_of(tmp_path / "bag", gripper_joint="finger")


def test_finger_in_metres_beyond_its_range_is_refused_in_words(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "bag", frames, change=named("gripper", finger_among_joints))
    with pytest.raises(ValueError, match="left_finger is at 0.03, outside 0 .gripper_closed. to 0.02"):
        events_of(tmp_path / "bag", **(FINGER | {"gripper_open": 0.02}))


def test_gripper_commands_in_metres_become_open_and_closed(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "bag", frames, commands=True)  # -1 for eight commands, then 1
    _, signals, _ = events_of(tmp_path / "bag", gripper_command_range=[1.0, -1.0])
    assert [s.value[0] for s in signals if s.role == "gripper_command"] == [1.0] * 8 + [-1.0] * 8
    _, signals, _ = events_of(tmp_path / "bag", gripper_command_range=[-3.0, 1.0])
    assert [s.value[0] for s in signals if s.role == "gripper_command"] == [0.0] * 8 + [1.0] * 8


# Depth


def test_depth_in_tenths_of_a_millimetre_gives_the_same_points(tmp_path: Path, frames: list[Any]) -> None:
    def sixteen_bits(i: int, message: Any) -> Any:
        metres = message.data.view("<f4").reshape(message.height, message.width)
        return make.image((np.nan_to_num(metres) * 1e4).round().astype("<u2"), "16UC1", S + (i - 1) * STEP_NS, CAMERA)

    write_bag(tmp_path / "metres", frames)
    write_bag(tmp_path / "tenths", frames, change=named("depth", sixteen_bits))
    (metres, *_), (tenths, *_) = events_of(tmp_path / "metres"), events_of(tmp_path / "tenths", depth_unit_m=0.0001)
    for one, other in zip(metres, tenths):
        np.testing.assert_allclose(one.points, other.points, atol=2e-4)
    tenfold = events_of(tmp_path / "tenths")[0][0].points
    assert np.linalg.norm(tenfold - camera_pose()[:3, 3], axis=1).min() > 3


# The end effector


def tool_in_tf(count: int = 5) -> list[tuple[int, str, str, np.ndarray]]:
    """tool0 goes 0.1 m/s along x; between it and the base stands a link that does not move."""
    stamps = [S + k * STEP_NS for k in range(count)]
    moving = [(stamp, "link", TOOL, pose(0.1 * (stamp - S) / S, 0.6, 0.2)) for stamp in stamps]
    return [(0, BASE, "link", pose(0.0, 0.0, 0.05, Rotation.identity())), *moving]


OF_TF = {"ee_pose_source": "tf", "ee_frame": TOOL}


def test_end_effector_of_tf_needs_no_pose_topic(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "bag", frames, topics={"ee_pose": "/unused"}, transforms=tool_in_tf())
    with pytest.raises(ValueError, match=r"no topic for ee_pose \(/simulator/ee_pose\)"):
        events_of(tmp_path / "bag")
    seen, signals, events = events_of(tmp_path / "bag", **OF_TF)
    assert "ee_pose" not in events.roles and events.drops == {}
    np.testing.assert_allclose([o.state.position for o in seen], [[0.005 * i, 0.6, 0.25] for i in range(4)], atol=1e-7)
    told = [s for s in signals if s.role == "ee_pose"]
    assert [s.stamp_ns for s in told] == [S + k * STEP_NS for k in range(5)]
    np.testing.assert_allclose(told[2].value[:3], [0.01, 0.6, 0.25])
    assert abs(told[2].value[3:] @ TURN.as_quat()) == pytest.approx(1)
    roles = {role: topic for role, topic in events.roles.items() if role != "twist"}
    assert "differences of the end effector in tf" in where_actions_come_from(roles, ActionForm())


def test_motion_of_an_end_effector_of_tf_is_learned(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "bag", frames, topics={"ee_pose": "/unused", "twist": "/none"}, transforms=tool_in_tf(9))
    with Bag(tmp_path / "bag") as bag:
        events = BagFrames(bag, BagSetup(base_from_camera=camera_pose(), **OF_TF), signals=True)
        roles = set(events.roles) - {"twist", "gripper_command"}
        labels = [label for _, label in labelled(events, roles, ActionForm(), 4, 3, 0.025)]
    assert len(labels) == 4 and labels[0] is not None
    np.testing.assert_allclose(labels[0], [[0.1, 0, 0, -1]] * 3, atol=1e-6)


def test_image_whose_stamp_tf_does_not_cover_is_left_out_and_counted(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "bag", frames, transforms=tool_in_tf(3))
    seen, _, events = events_of(tmp_path / "bag", **OF_TF)
    assert len(seen) == 3 and events.drops == {"no transform": 1}


@pytest.mark.parametrize("by_tf", [False, True])
def test_pose_in_another_frame_that_is_known_becomes_one_in_the_base_frame(
    tmp_path: Path, frames: list[Any], by_tf: bool
) -> None:
    world = pose(0.0, 0.0, 0.8)
    inside = np.linalg.inv(world) @ pose(0.1, 0.6, 0.2, Rotation.identity())

    def in_world(i: int, message: Any) -> Any:
        turn = Rotation.from_matrix(inside[:3, :3]).as_quat()
        return make.pose(inside[:3, 3], S + (i - 1) * STEP_NS, "world", turn)

    transforms = [(0, BASE, "world", world), (0, BASE, CAMERA, camera_pose())]
    write_bag(tmp_path / "bag", frames, change=named("ee_pose", in_world), transforms=transforms)
    with pytest.raises(
        ValueError, match="end-effector pose is in frame 'world': publish it in 'base' or.*sensor_frames"
    ):
        events_of(tmp_path / "bag")
    numbers = [*world[:3, 3], *TURN.as_quat()]
    known = {"extrinsics_source": "tf"} if by_tf else {"sensor_frames": ["world"], "sensor_extrinsics": numbers}
    seen, signals, _ = events_of(tmp_path / "bag", **known)
    np.testing.assert_allclose([o.state.position for o in seen], [[0.1, 0.6, 0.2]] * 4, atol=1e-6)
    poses = np.array([s.value for s in signals if s.role == "ee_pose"])
    np.testing.assert_allclose(poses[:, :3], [[0.1, 0.6, 0.2]] * 4, atol=1e-6)
    np.testing.assert_allclose(np.abs(poses[:, 6]), 1, atol=1e-9)


def test_pose_without_orientation_still_says_where_it_is(tmp_path: Path, frames: list[Any]) -> None:
    def not_turned(i: int, message: Any) -> None:
        message.pose.orientation.w = 0.0

    write_bag(tmp_path / "bag", frames, change=named("ee_pose", not_turned))
    seen, signals, events = events_of(tmp_path / "bag")
    poses = np.array([s.value for s in signals if s.role == "ee_pose"])
    assert len(seen) == 4 and poses.shape == (4, 7) and np.isnan(poses[:, 3:]).all() and events.drops == {}


# Twists


def of_the_tool(i: int, role: str, message: Any) -> Any:
    """Twists in tool0 with a turn beside them; the pose says how tool0 is turned."""
    if role == "ee_pose":
        for name, value in zip("xyzw", TURN.as_quat()):
            setattr(message.pose.orientation, name, float(value))
    if role == "twist":
        message.header.frame_id = TOOL
        message.twist.angular.z = 0.4
    return message


@pytest.mark.parametrize("by_tf", [False, True])
def test_twist_of_the_tool_is_turned_into_the_base_frame_both_parts(
    tmp_path: Path, frames: list[Any], by_tf: bool
) -> None:
    write_bag(tmp_path / "bag", frames, commands=True, change=of_the_tool, transforms=tool_in_tf(6))
    known = OF_TF if by_tf else {"ee_frame": TOOL}
    _, signals, events = events_of(tmp_path / "bag", **known)
    twists = np.array([s.value for s in signals if s.role == "twist"])
    assert twists.shape == (16, 6)
    expected = [[0.001 * k, 0.0, -0.1] for k in range(16)]
    np.testing.assert_allclose(twists[:, :3], TURN.apply(expected), atol=1e-9)
    np.testing.assert_allclose(twists[:, 3:], TURN.apply([[0.0, 0.0, 0.4]] * 16), atol=1e-9)
    assert events.twists.turning == 16 and not events.drops
    with Bag(tmp_path / "bag") as bag:
        again = BagFrames(bag, BagSetup(base_from_camera=camera_pose(), **known), signals=True)
        labels = [label for _, label in labelled(again, again.roles, ActionForm(), 7, 4, 0.0125)]
    np.testing.assert_allclose(labels[0][:, :3], TURN.apply(expected[:4]), atol=1e-6)
    np.testing.assert_allclose(labels[0][:, 3:6], TURN.apply([[0.0, 0.0, 0.4]] * 4), atol=1e-6)


def test_twist_of_the_tool_far_from_any_pose_or_of_another_frame_is_no_label(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "bag", frames, commands=True, change=of_the_tool)
    for setup, says in (
        ({"ee_frame": TOOL, "sync_tolerance_ms": 20.0}, "no orientation of ee_pose within sync_tolerance_ms"),
        ({"ee_frame": "hand"}, "in frame 'tool0': publish it in 'base'.*ee_frame.*extrinsics_source: tf"),
    ):
        _, signals, events = events_of(tmp_path / "bag", **setup)
        left = [s for s in signals if s.role == "twist"]
        (cause,) = (cause for cause in events.drops if cause.startswith("twist: in frame"))
        assert len(left) + events.drops[cause] == 16 and events.drops[cause] >= 4
        assert re.search(says, cause)


def test_twist_whose_frame_tf_does_not_know_is_counted_once_each(tmp_path: Path, frames: list[Any]) -> None:
    transforms = [(0, BASE, CAMERA, camera_pose())]
    write_bag(tmp_path / "bag", frames, commands=True, change=of_the_tool, transforms=transforms)
    seen, _, events = events_of(tmp_path / "bag", extrinsics_source="tf")
    assert len(seen) == 4 and events.drops["twist: in frame 'tool0': no transform to 'base' at its stamp"] == 16


def test_orientation_nearest_to_the_stamp_of_a_twist_turns_it() -> None:
    frames = TwistFrames(BagSetup(ee_frame=TOOL, sync_tolerance_ms=30.0), drops := Counter())
    quarters = [Rotation.from_euler("z", 90 * k, degrees=True) for k in range(4)]
    for k, turn in enumerate(quarters):
        frames.remember(k * STEP_NS, turn.as_quat())
        frames.remember(k * STEP_NS - 1, quarters[0].as_quat())  # too late
        frames.remember(k * STEP_NS + 1, np.full(4, np.nan))
    for at, k in ((0, 0), (STEP_NS - 20_000_000, 1), (STEP_NS + 20_000_000, 1), (3 * STEP_NS + 30_000_000, 3)):
        got = frames.velocity(make.twist([1.0, 0, 0, 0, 1.0, 0], at, TOOL), True, at)
        np.testing.assert_allclose(got, [*quarters[k].apply([1, 0, 0]), *quarters[k].apply([0, 1, 0])], atol=1e-9)
    assert frames.velocity(make.twist([1.0, 0, 0], 4 * STEP_NS, TOOL), True, 4 * STEP_NS) is None
    frames.forget()
    assert frames.velocity(make.twist([1.0, 0, 0], 0, TOOL), True, 0) is None
    assert drops["twist: in frame 'tool0': no orientation of ee_pose within sync_tolerance_ms of its stamp"] == 2


def test_memory_of_orientations_is_bounded() -> None:
    frames = TwistFrames(BagSetup(ee_frame=TOOL), Counter())
    for k in range(10_000):
        frames.remember(k * 1_000_000, TURN.as_quat())
    assert len(frames._stamps) == len(frames._turns) <= 4000
    assert frames.velocity(make.twist([1.0, 0, 0], 9_999_000_000, TOOL), True, 9_999_000_000) is not None


# The setup


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"ee_pose_source": "tf"}, "ee_pose_source is tf, but ee_frame is empty: name the frame"),
        ({"ee_pose_source": "guess"}, "ee_pose_source is 'guess': choose from topic, tf"),
        (OF_TF | {"topics": {"ee_pose": "/arm/pose"}}, "topics names /arm/pose for ee_pose: give one of the two"),
        ({"ee_frame": "base"}, "ee_frame is 'base', which is base_frame too"),
        ({"gripper_closed": 1.0}, "gripper_closed and gripper_open are both 1.0"),
        ({"gripper_command_range": [0.0, 0.0]}, "gripper_command_range is .*must differ"),
        ({"depth_unit_m": 0.0}, r"depth_unit_m must lie in \[1e-06, 1\] metres, got 0.0"),
    ],
)
def test_words_that_make_no_sense_are_refused_with_their_names(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BagSetup(**values)


def test_file_of_a_bag_and_parameters_of_the_node_take_the_same_words(tmp_path: Path) -> None:
    words = (
        "ee_pose_source: tf\nee_frame: tool0\ngripper_joint: left_finger\ngripper_closed: 0\ngripper_open: 0.04\n"
        "gripper_command_range: [0.08, 0.0]\ndepth_unit_m: 0.0001\n"
    )
    own, node = tmp_path / "own.yaml", tmp_path / "node.yaml"
    own.write_text(words)
    node.write_text("/**/policy:\n  ros__parameters:\n" + "".join(f"    {line}\n" for line in words.splitlines()))
    for path in (own, node):
        setup = BagSetup.load(path)
        assert setup.ee_pose_of_tf and setup.ee_frame == TOOL
        assert setup.readers().gripper.name == "left_finger" and setup.readers().depth_unit_m == 0.0001
        assert setup.gripper_commands().command(0.04) == pytest.approx(0.0)
