"""What belongs together in a bag is joined, and what is not used is told with its reason: in words, JSON and pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bags import write_bag

from mvla_pruned_ros.bags.labels import labelled
from mvla_pruned_ros.bags.observations import BagFrame, BagFrames
from mvla_pruned_ros.bags.reader import Bag
from mvla_pruned_ros.bags.setup import BagSetup
from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.control.action_spaces import ActionForm
from mvla_pruned_ros.geometry.clouds import whereabouts
from mvla_pruned_ros.messages.decode import COLOUR_ENCODINGS
from mvla_pruned_ros.observation.reasons import Reasons
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.sim.metaworld.viewpoint import camera_pose
from mvla_pruned_ros.training.from_bags import bag_demonstrations
from mvla_pruned_ros.types import Observation

PUSH, CLOSE = "push the puck to the goal", "close the faucet"
S, PERIOD_NS = 10**9, 33_333_333


def views(observation: Callable[..., Observation], count: int, step_ns: int = 50_000_000) -> list[Any]:
    return [observation(seed=i, stamp_ns=100 * S + i * step_ns) for i in range(count)]


def read(folder: Path) -> tuple[list[BagFrame], BagFrames]:
    with Bag(folder) as bag:
        events = BagFrames(bag, BagSetup(base_from_camera=camera_pose()))
        return [event for event in events if isinstance(event, BagFrame)], events


@pytest.mark.parametrize("late_ms", [90, 300])
def test_image_is_joined_with_the_depth_of_its_stamp_though_that_was_logged_later(
    tmp_path: Path, observation: Callable[..., Observation], late_ms: int
) -> None:
    frames = [PUSH, *views(observation, 6, PERIOD_NS), CLOSE, *(
        observation(seed=9 + i, stamp_ns=101 * S + i * PERIOD_NS) for i in range(4)
    )]  # fmt: skip
    write_bag(tmp_path / "good", frames, period_ns=PERIOD_NS)
    write_bag(tmp_path / "late", frames, period_ns=PERIOD_NS, late_ns={"depth": late_ms * 1_000_000})
    (good, _), (late, events) = read(tmp_path / "good"), read(tmp_path / "late")
    assert len(good) == len(late) == 10 and events.drops == {}
    for one, other in zip(good, late):
        np.testing.assert_array_equal(one.observation.points, other.observation.points)
        assert (one.episode, one.observation.instruction) == (other.episode, other.observation.instruction)


def test_depth_that_was_lost_is_not_waited_for(tmp_path: Path, observation: Callable[..., Observation]) -> None:
    write_bag(tmp_path / "bag", [PUSH, *views(observation, 4)], lost=(2, "depth"))
    frames, _ = read(tmp_path / "bag")
    assert len(frames) == 4
    np.testing.assert_array_equal(frames[1].observation.points, frames[0].observation.points)  # 50 ms before


@pytest.mark.parametrize(
    ("role", "topic", "off_s", "says"),
    [("ee_pose", "ee_pose", -9.3, "9.20 s"), ("image", "depth", 37, "36.90 s"), ("depth", "depth", -0.3, "200 ms")],
)
def test_stream_of_another_clock_is_named_with_the_difference(
    tmp_path: Path, observation: Callable[..., Observation], role: str, topic: str, off_s: float, says: str
) -> None:
    def change(i: int, name: str, message: Any) -> Any:
        if name == role:
            stamp = message.header.stamp.sec * S + message.header.stamp.nanosec + round(off_s * S)
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, S)
        return message

    write_bag(tmp_path / "bag", [PUSH, *views(observation, 3)], change=change)
    with pytest.raises(ValueError, match=rf"3 of 3 not used: .*nearest /simulator/{topic} is {says} away.*60 ms are"):
        read(tmp_path / "bag")


def wrong_encoding(i: int, role: str, message: Any) -> Any:
    if role == "image" and i % 2:
        message.encoding = "8UC3"
    return message


@pytest.fixture
def half_refused(tmp_path: Path, observation: Callable[..., Observation]) -> Path:
    write_bag(tmp_path / "bag", [PUSH, *views(observation, 8)], commands=True, change=wrong_encoding)
    return tmp_path / "bag"


SAYS = f"colour image has encoding '8UC3': {', '.join(COLOUR_ENCODINGS)} can be used"


@pytest.mark.parametrize(("command", "page"), [("replay", "replay"), ("analyze", "analysis")])
def test_refused_pictures_are_told_on_the_console_in_json_and_on_the_page(
    half_refused: Path, tiny_policy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str,
    page: str,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    assert main([command, str(half_refused), "--policy", str(tiny_policy_folder), "--out", str(out)]) == 0
    assert f"4 of 8 pictures not used: {SAYS}" in capsys.readouterr().out
    numbers = json.loads((out / f"{page}.json").read_text())
    assert numbers["not_used"] == {"pictures": 4, "of": 8, "reasons": {SAYS: 4}}
    assert "encoding &#39;8UC3&#39;" in (out / f"{page}.html").read_text()


def test_training_tells_what_of_a_bag_it_does_not_use(half_refused: Path, tmp_path: Path) -> None:
    from mvla_pruned_ros.policy.mvla.config import MVLAConfig
    from mvla_pruned_ros.training.from_bags import convert_bags
    from mvla_pruned_ros.training.learning_curve import BAGS, LOG, write_learning_curve

    told: list[dict[str, Any]] = []
    (file,) = half_refused.glob("*.mcap")
    for path in (half_refused, half_refused, file):  # the second time nothing is converted, and told all the same
        convert_bags(
            [path], BagSetup(base_from_camera=camera_pose()), MVLAConfig(chunk_size=4), tmp_path / "data", 0.0,
            lambda bag, report: told.append(report),
        )  # fmt: skip
    assert (
        told[0] == told[1] and told[2]["frames"] == told[0]["frames"] > 0 and told[0]["not_used"]["reasons"][SAYS] == 4
    )
    (tmp_path / LOG).write_text("step,loss,seconds\n1,0.5,1.0\n")
    (tmp_path / BAGS).write_text(json.dumps({"monday": told[0]}))
    write_learning_curve(tmp_path)
    assert "4 of 8 pictures not used: colour image" in (tmp_path / "learning_curve.html").read_text()


def labels(folder: Path) -> tuple[list[np.ndarray | None], BagFrames]:
    with Bag(folder) as bag:
        events = BagFrames(bag, BagSetup(base_from_camera=camera_pose()), signals=True)
        return [actions for _, actions in labelled(events, events.roles, ActionForm(), 4, 4, 0.0125)], events


def test_twist_in_another_frame_is_no_label(tmp_path: Path, observation: Callable[..., Observation]) -> None:
    def in_tool(i: int, role: str, message: Any) -> Any:
        if role == "twist":
            message.header.frame_id = "tool0" if i > 2 else ("" if i == 2 else "base")
        return message

    write_bag(tmp_path / "bag", [PUSH, *views(observation, 4)], commands=True, change=in_tool)
    got, events = labels(tmp_path / "bag")
    assert [label is None for label in got] == [False, False, True, True]  # the second ends at the stamp of a third
    (cause,) = (cause for cause in events.drops if cause.startswith("twist: "))
    assert events.drops[cause] == 8 and "in frame 'tool0': publish it in 'base', set base_frame, name it in" in cause


def test_turn_that_is_not_learned_is_counted(tmp_path: Path, observation: Callable[..., Observation]) -> None:
    def turning(i: int, role: str, message: Any) -> Any:
        if role == "twist" and i == 1:
            message.twist.angular.z = 0.3
        return message

    write_bag(tmp_path / "bag", [PUSH, *views(observation, 3)], commands=True, change=turning)
    with Bag(tmp_path / "bag") as bag:
        events = BagFrames(bag, BagSetup(base_from_camera=camera_pose()), signals=True)
        (got,) = bag_demonstrations(events, replace(MVLAConfig(), chunk_size=4))
    assert got.actions.shape == (3, 4, 4)
    assert events.drops == {"twist: angular velocity is not learned, its linear part is": 4}


def test_arm_joints_for_a_gripper_are_told_by_name(tmp_path: Path, observation: Callable[..., Observation]) -> None:
    def arm(i: int, role: str, message: Any) -> Any:
        if role == "gripper":
            message.name, message.position = [f"joint{k}" for k in range(9)], np.full(9, 0.2)
        return message

    write_bag(tmp_path / "bag", [PUSH, *views(observation, 2)], change=arm)
    with pytest.raises(ValueError, match="2 of 2 not used: gripper state has 9 joints.*joint0, joint1"):
        read(tmp_path / "bag")


def test_depth_in_another_unit_is_seen_from_where_the_points_lie(
    tmp_path: Path,
    observation: Callable[..., Observation],
    tiny_policy_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def tenth(i: int, role: str, message: Any) -> Any:
        if role == "depth":
            message.data = (message.data.view("<f4") * 10).view(np.uint8)
        return message

    write_bag(tmp_path / "bag", [PUSH, *views(observation, 2)], change=tenth)
    frames, _ = read(tmp_path / "bag")
    where = whereabouts(frames[0].observation.points)
    arguments = ["--policy", str(tiny_policy_folder), "--out", str(tmp_path / "out")]
    assert main(["replay", str(tmp_path / "bag"), *arguments]) == 2
    error = capsys.readouterr().err
    assert where in error and "points in the workspace (-0.45, 0.35" in error and "2 of 2 not used" in error


def test_whereabouts_are_median_and_box() -> None:
    points = np.linspace([0, 1, -9], [2, 1, -5], 101)
    box = "from (0.02, 1.00, -8.96) to (1.98, 1.00, -5.04) m"
    assert whereabouts(points) == f"101 points of the cloud lie around (1.00, 1.00, -7.00), {box}"
    assert whereabouts(points[:0]) == "the cloud has no point"


def test_reasons_that_differ_in_numbers_are_one() -> None:
    reasons = Reasons()
    for reason in ("nearest /a is 9.26 s away", "opening is -1e-05", "nearest /a is 9.27 s away"):
        reasons.add(reason)
    assert reasons.counts == {"nearest /a is 9.26 s away": 2, "opening is -1e-05": 1} and reasons.total == 3
    assert reasons.sentence(5) == "3 of 5 not used: 2 x nearest /a is 9.26 s away; 1 x opening is -1e-05"
    assert Reasons().sentence(5) == ""


def test_stamps_of_whole_seconds_are_told(tmp_path: Path, observation: Callable[..., Observation]) -> None:
    def whole(i: int, role: str, message: Any) -> Any:
        if role in ("image", "depth", "camera_info"):
            message.header.stamp.nanosec = 0
        return message

    write_bag(tmp_path / "bag", [PUSH, *views(observation, 6)], change=whole)
    frames, events = read(tmp_path / "bag")
    assert [frame.observation.stamp_ns for frame in frames] == [100 * S]
    assert events.unused.sentence(6) == "5 of 6 not used: /simulator/image has a stamp that cannot be used: duplicate"
