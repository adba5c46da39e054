"""Where the end effector is: from messages in any frame that is known, from tf, and how long what is known holds."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mvla_pruned_ros.bags.writer import bag_encoder
from mvla_pruned_ros.messages.decode import ConversionError
from mvla_pruned_ros.observation.arm_state import end_effector_pose
from mvla_pruned_ros.observation.frames import Frames, TransformError

S = 10**9
make = bag_encoder()
TURN, OTHER = Rotation.from_euler("xyz", [0.3, -0.5, 1.2]), Rotation.from_euler("z", 1.0)


def pose(position: Any, turn: Rotation) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn.as_matrix(), position
    return matrix


def same_turn(a: np.ndarray | None, b: Rotation) -> bool:
    return a is not None and abs(abs(a @ b.as_quat()) - 1) < 1e-9


def moving(target: str, source: str, stamp: int) -> np.ndarray:
    """world goes a metre a second along x; tool0 stands in it."""
    assert target == "base"
    if source not in ("world", "tool0"):
        raise TransformError(f"no transform leads from {source!r} to 'base'")
    return pose([stamp / S, 0, 0], OTHER) @ (np.eye(4) if source == "world" else pose([0, 0, 1], TURN))


def test_message_in_the_base_frame_is_taken_as_it_is() -> None:
    at, turn = end_effector_pose(make.pose([0.1, 0.2, 0.3], S, "base", TURN.as_quat()), 0, Frames("base", "camera"))
    assert at.dtype == np.float32 and at.tolist() == np.float32([0.1, 0.2, 0.3]).tolist() and same_turn(turn, TURN)
    _, turn = end_effector_pose(make.pose([0, 0, 0], S, "base", [0, 0, 0, 0]), 0, Frames("base", "camera"))
    assert turn is None, "many drivers leave it empty"


def test_message_in_another_frame_is_moved_and_turned_as_of_its_own_stamp() -> None:
    message = make.pose([1, 0, 0], 2 * S, "world", TURN.as_quat())
    frames = Frames("base", "camera", {}, moving)
    at, turn = end_effector_pose(message, 9 * S, frames)
    np.testing.assert_allclose(at, np.array([2, 0, 0]) + OTHER.apply([1, 0, 0]), atol=1e-6)
    assert same_turn(turn, OTHER * TURN)
    still = Frames("base", "camera", {"world": pose([0, 0, 5], OTHER)})
    np.testing.assert_allclose(end_effector_pose(message, 0, still)[0], OTHER.apply([1, 0, 0]) + [0, 0, 5], atol=1e-6)


def test_frame_of_tf_is_looked_up_at_the_stamp_of_the_image() -> None:
    at, turn = end_effector_pose(None, 3 * S, Frames("base", "camera", {}, moving, "tool0"))
    np.testing.assert_allclose(at, [3, 0, 1], atol=1e-6)
    assert same_turn(turn, OTHER * TURN)
    with pytest.raises(TransformError, match="from 'hand'"):
        end_effector_pose(None, 3 * S, Frames("base", "camera", {}, moving, "hand"))


def test_frame_of_which_nothing_is_known_is_refused_with_the_remedy() -> None:
    for frame in ("world", ""):
        with pytest.raises(
            ConversionError, match=f"in frame '{frame}': publish it in 'base' or set base_frame, or say"
        ):
            end_effector_pose(make.pose([1, 0, 0], S, frame), S, Frames("base", "camera"))
    with pytest.raises(ConversionError, match="not finite"):
        end_effector_pose(make.pose([1, math.nan, 0], S, "world"), S, Frames("base", "camera", {}, moving))


# What commands start from


class Tf:
    """In the place of the node's lookup: the newest transform."""

    def __init__(self) -> None:
        self.now: tuple[np.ndarray, int] | None = None
        self.asked = 0

    def newest(self, target: str, source: str) -> tuple[np.ndarray, int]:
        self.asked += 1
        if self.now is None:
            raise TransformError("not known")
        return self.now


class Clock:
    """Of the node and of this computer, which a test may let run apart."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.node_s, self.steady_s = 100.0, 5.0
        monkeypatch.setattr("time.monotonic", lambda: self.steady_s)
        self.node = SimpleNamespace(get_clock=lambda: SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=self.ns)))

    @property
    def ns(self) -> int:
        return round(self.node_s * S)

    def go_on(self, seconds: float) -> None:
        self.node_s, self.steady_s = self.node_s + seconds, self.steady_s + seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    return Clock(monkeypatch)


def reader(clock: Clock, frames: Frames, tf: Tf) -> Any:
    from mvla_pruned_ros.node.robot_state import RobotStateReader

    made = RobotStateReader(clock.node, "base", (), lambda: 0.5)
    made.attach(frames, tf)
    return made


OF_TF = Frames("base", "camera", {}, moving, "tool0")


def test_newest_of_tf_is_what_commands_start_from_until_it_is_old(clock: Clock) -> None:
    tf = Tf()
    state = reader(clock, OF_TF, tf)
    assert state.current.position is None
    tf.now = pose([0.1, 0.2, 0.3], TURN), clock.ns
    assert state.current.position is None, "just asked"
    clock.go_on(0.02)
    assert state.current.position.tolist() == [0.1, 0.2, 0.3] and same_turn(state.current.orientation, TURN)
    clock.go_on(0.4)
    assert state.current.position is not None
    clock.go_on(0.2)
    assert state.current.position is None and state.current.orientation is None, "older than half a second"
    tf.now = pose([1, 1, 1], TURN), clock.ns
    clock.go_on(0.02)
    assert state.current.position.tolist() == [1, 1, 1]
    state.detach()
    assert state.current.position is None


def test_tf_is_asked_at_a_modest_rate(clock: Clock) -> None:
    tf = Tf()
    tf.now = pose([0, 0, 0], TURN), clock.ns
    state = reader(clock, OF_TF, tf)
    for _ in range(100):
        clock.go_on(0.001)
        assert state.current.position is not None
    assert 5 <= tf.asked <= 11


def test_transform_from_the_future_or_that_no_longer_changes_is_not_known(clock: Clock) -> None:
    tf = Tf()
    state = reader(clock, OF_TF, tf)
    tf.now = pose([0, 0, 0], TURN), clock.ns + S
    assert state.current.position is None
    tf.now = pose([0, 0, 0], TURN), clock.ns
    clock.go_on(0.02)
    assert state.current.position is not None
    clock.steady_s += 0.6  # simulated time stands still
    assert state.current.position is None


def test_transform_that_holds_for_all_time_does_not_become_old(clock: Clock) -> None:
    tf = Tf()
    tf.now = pose([0, 0, 1], TURN), 0
    state = reader(clock, OF_TF, tf)
    for _ in range(3):
        assert state.current.position.tolist() == [0, 0, 1]
        clock.go_on(10.0)


def test_after_a_clock_jump_nothing_is_known_until_tf_is_asked_again(clock: Clock) -> None:
    tf = Tf()
    tf.now = pose([0, 0, 1], TURN), clock.ns
    state = reader(clock, OF_TF, tf)
    assert state.current.position is not None
    tf.now = None
    state.flush()
    assert state.current.position is None


def test_turn_of_tf_does_not_change_its_sign(clock: Clock) -> None:
    """The same rotation has two quaternions; a matrix gives now one, now the other."""
    tf, before = Tf(), None
    state = reader(clock, OF_TF, tf)
    for angle in np.linspace(3.0, 3.3, 40):
        clock.go_on(0.02)
        tf.now = pose([0, 0, 0], Rotation.from_euler("z", angle)), clock.ns
        turn = state.current.orientation
        assert before is None or turn @ before > 0.99
        before = turn


def test_pose_in_a_frame_of_tf_is_known_to_commands_too(clock: Clock) -> None:
    tf = Tf()
    state = reader(clock, Frames("base", "camera", {}, moving), tf)
    message = make.pose([1, 0, 0], clock.ns, "world", TURN.as_quat())
    state.take_pose(message)
    assert state.current.position is None, "tf says nothing yet"
    tf.now = pose([0, 0, 2], OTHER), clock.ns
    state.take_pose(message)
    np.testing.assert_allclose(state.current.position, OTHER.apply([1, 0, 0]) + [0, 0, 2], atol=1e-6)
    assert same_turn(state.current.orientation, OTHER * TURN)


# Parameters


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"ee_pose_source": "tf"}, "ee_frame is empty: name the frame"),
        ({"ee_frame": "tool0"}, "ee_frame is 'tool0', but ee_pose_source is topic: set ee_pose_source to tf, or leave"),
        ({"ee_pose_source": "tf", "ee_frame": "base"}, "ee_frame is 'base', which is base_frame too"),
        ({"gripper_open": 0.0}, "gripper_closed and gripper_open are both 0.0"),
        ({"gripper_closed": math.nan}, "gripper_closed must be finite"),
        ({"gripper_command_range": [0.08, 0.08]}, "gripper_command_range is .*must differ"),
        ({"gripper_command_range": [0.08, math.inf]}, "gripper_command_range must be finite"),
        ({"depth_unit_m": 0.0}, r"depth_unit_m must lie in \[1e-06, 1\]"),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused_by_name(values: dict[str, Any], says: str) -> None:
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    from mvla_pruned_ros.node.parameters import SPECS, Settings

    defaults = {name: spec.default for name, spec in SPECS.items()}
    Settings.of(defaults)
    with pytest.raises(ValueError, match=says):
        Settings.of(defaults | values)


def test_words_of_a_bag_are_those_of_the_node_with_the_same_defaults() -> None:
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    from mvla_pruned_ros.bags.setup import FILE_KEYS, BagSetup
    from mvla_pruned_ros.node.parameters import SPECS

    empty = {
        "sensor_frames",
        "sensor_extrinsics",
        "extra_clouds",
        "extra_images",
        "joint_names",
        "hand_frames",
    }  # [""] in ROS
    shared = {name for name in FILE_KEYS if name in SPECS} - empty
    assert {"ee_pose_source", "ee_frame", "gripper_joint", "gripper_command_range", "depth_unit_m"} < shared
    for name in shared:
        ours, node = getattr(BagSetup(), name), SPECS[name].default
        assert (list(ours) if isinstance(node, list) else ours) == node, name
