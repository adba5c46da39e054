"""Following a bag: the calls of the node made again, and clear words about those that cannot be."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bags import write_bag
from conftest import make_observation
from scipy.spatial.transform import Rotation

from mvla_pruned_ros.bags.reader import Bag
from mvla_pruned_ros.bags.setup import TOPICS
from mvla_pruned_ros.bags.writer import BagWriter, bag_encoder
from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.policy.call_record import CallRecord

PUSH, CLOSE = "push the puck to the goal", "close the faucet"
STEP_NS = 50_000_000
CALL = "/policy/call"


@pytest.fixture(scope="module")
def sensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of sensors and instructions alone: nine frames."""
    folder = tmp_path_factory.mktemp("sensors") / "bag"
    write_bag(folder, [PUSH, *(make_observation(seed=i, stamp_ns=10**9 + i * STEP_NS) for i in range(9))])
    return folder


@pytest.fixture(scope="module")
def records(sensors: Path, tiny_policy_folder: Path) -> list[CallRecord]:
    """What the node's worker says of these frames, with settings, instruction and method changed on the way."""
    return recorded(sensors, tiny_policy_folder)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As the records say."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recorded(sensors: Path, tiny_policy_folder: Path, **given: Any) -> list[CallRecord]:
    """The worker is the node's own; its parameters and its messages come from here instead of from a graph.

    Args:
        given: parameters. With ee_pose_source tf the end effector is where ``tool_at`` says. With hand_frames the
            camera is on the hand.
    """
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    from mvla_pruned_ros.control.chunk_buffer import ChunkBuffer
    from mvla_pruned_ros.messages.decode import OWN_READERS, stamp_ns
    from mvla_pruned_ros.node.call_report import record_of
    from mvla_pruned_ros.node.parameters import SPECS, Settings
    from mvla_pruned_ros.node.worker import Result, Worker
    from mvla_pruned_ros.observation.builder import ObservationBuilder
    from mvla_pruned_ros.observation.frames import Frames, of_the_hand
    from mvla_pruned_ros.observation.synchronizer import Synchronizer
    from mvla_pruned_ros.policy.fingerprint import policy_fingerprint
    from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
    from mvla_pruned_ros.policy.runtime import PolicyRuntime
    from mvla_pruned_ros.pruning.methods import make_pruner

    values = {name: spec.default for name, spec in SPECS.items()} | {"instruction": PUSH} | given
    # Frame: what changes before it.
    changes: dict[int, dict[str, Any]] = {
        3: {"keep_ratio": 0.25}, 4: {"pruning.return_share": 0.3}, 5: {"instruction": CLOSE}, 7: {"method": "random"}
    }  # fmt: skip
    about = {
        "policy": str(tiny_policy_folder), "fingerprint": policy_fingerprint(tiny_policy_folder), "device": "cpu",
        "device_name": "cpu", "precision": "auto", "torch_threads": 1,
    }  # fmt: skip
    of_tf = given.get("ee_pose_source") == "tf"
    roles = ("image", "depth", "camera_info", *(() if of_tf else ("ee_pose",)), "gripper")
    topics = {role: TOPICS[role] for role in roles}
    names = {topic: role for role, topic in topics.items()}
    camera = "camera_color_optical_frame"
    poses = {camera: make_observation().views[0].camera.base_from_camera}
    still, hand = of_the_hand(poses, on_hand := given.get("hand_frames", ()))
    hand = {name: np.linalg.inv(tool_at(10**9)) @ pose for name, pose in hand.items()}
    frames = Frames("base", camera, still, lambda _, frame, at: tool_at(at), given.get("ee_frame", ""), hand)
    joints = {"gripper": [given.get("gripper_joint", "")]}
    store = Synchronizer(topics, unstamped=("camera_info",), joints=joints, hand=bool(on_hand))
    chunks, found = ChunkBuffer(), []
    runtime = PolicyRuntime(MVLAPolicy.load(tiny_policy_folder), make_pruner("tri_stage", 0.5))
    settings = Settings.of(values)
    builder = ObservationBuilder(frames, settings.readers(OWN_READERS))

    def on_result(result: Result) -> None:
        found.append(record_of(result, settings, topics, builder.frames, about))

    def observe(matched: Any, settings: Settings) -> Any:
        return builder.build(matched, settings["instruction"])

    worker = Worker(runtime, store, chunks, lambda: settings, observe, on_result)
    with Bag(sensors) as bag:
        for raw in bag.messages(set(names)):
            message = bag.decode(raw)
            store.put(names[raw.topic], message, stamp_ns(message.header), 10**9)
            matched = store.take(10**8 if on_hand else 10**7) if names[raw.topic] == "image" else None
            if matched is not None:
                settings = Settings.of(values := values | changes.get(len(found), {}))
                worker._infer(matched, settings)
                assert worker.failure is None
    return found


def tool_at(stamp_ns: int) -> np.ndarray:
    """(4, 4) of the end effector in the base frame; numbers that no float32 is."""
    pose = np.eye(4)
    pose[:3, 3] = 0.1 + (stamp_ns - 10**9) / 3e9, 0.6, 0.2
    return pose


def write(folder: Path, sensors: Path, records: list[CallRecord], lost: set[tuple[str, int]] = frozenset()) -> Path:  # type: ignore[assignment]
    """The bag of sensors with the calls after the frames they belong to. lost: topic and stamp of what is left out."""
    from mvla_pruned_ros.messages.decode import stamp_ns

    calls = {record.stamp_ns: record for record in records}
    with Bag(sensors) as bag, BagWriter(folder, {**bag.types, CALL: "std_msgs/msg/String"}) as writer:
        for raw in bag.messages(set(bag.types)):
            message = bag.decode(raw)
            stamp = stamp_ns(message.header) if hasattr(message, "header") else 0
            if (raw.topic, stamp) not in lost:
                writer.write(raw.topic, 10**9 + raw.offset_ns, message)
            if raw.topic == TOPICS["image"] and stamp in calls:
                text = writer.messages.text(calls[stamp].to_json())
                writer.write(CALL, 10**9 + raw.offset_ns + 5, text)
    return folder


@pytest.fixture
def followed(tmp_path: Path, sensors: Path) -> Iterator[Callable[..., tuple[int, dict[str, Any]]]]:
    def follow(records: list[CallRecord], **lost: Any) -> tuple[int, dict[str, Any]]:
        bag = write(tmp_path / "bag", sensors, records, **lost)
        code = main(["replay", str(bag), "--follow", "--out", str(tmp_path / "out")])
        return code, json.loads((tmp_path / "out" / "follow.json").read_text())

    yield follow


def test_record_of_a_call_comes_back_as_it_was(records: list[CallRecord]) -> None:
    for record in records:
        again = CallRecord.from_json(record.to_json())
        for field in dataclasses.fields(CallRecord):
            np.testing.assert_equal(getattr(again, field.name), getattr(record, field.name), err_msg=field.name)
        assert again.actions.dtype == np.float32


@pytest.mark.parametrize("text", ["{}", "not json", '{"version": 99}', '{"version": 1, "kept": 3}', "[]"])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a record of a policy call"):
        CallRecord.from_json(text)


def test_calls_are_the_node_s_through_changes_and_resets(
    records: list[CallRecord], followed: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    assert [r.since_reset for r in records] == [0, 1, 2, 3, 4, 0, 1, 0, 1]
    code, numbers = followed(records)
    assert code == 0 and numbers["verdict"] == "exact"
    assert numbers["followed"] == numbers["actions_exact"] == numbers["selections_same"] == 9
    assert numbers["settings"] == {"tri_stage at 0.5": 3, "tri_stage at 0.25": 4, "random at 0.25": 2}
    assert numbers["episodes"] == 3 and not numbers["skipped"] and not numbers["causes"]


def test_inputs_in_the_units_of_their_drivers_are_followed_too(
    tmp_path: Path, tiny_policy_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Depth in tenths of a millimetre, a finger among joints, the arm on the same topic at the same stamps, tf."""

    def as_drivers_do(i: int, role: str, message: Any) -> Any:
        if role == "depth":
            metres = message.data.view("<f4").reshape(message.height, message.width)
            message.encoding, message.step = "16UC1", 2 * message.width
            message.data = (np.nan_to_num(metres) * 1e4).round().astype("<u2").view(np.uint8).ravel()
        if role == "gripper":
            message.name, message.position = ["left", "finger"], np.array([0.5, 0.03 - 0.002 * i])
        return message

    views = [make_observation(seed=i, stamp_ns=10**9 + i * STEP_NS) for i in range(4)]
    write_bag(tmp_path / "fingers", [PUSH, *views], change=as_drivers_do)
    with Bag(tmp_path / "fingers") as bag, BagWriter(tmp_path / "sensors", bag.types) as writer:
        for raw in bag.messages(set(bag.types)):
            message = bag.decode(raw)
            if raw.topic == TOPICS["gripper"]:
                arm = bag.decode(raw)
                arm.name, arm.position = ["joint1", "joint2"], np.array([0.1, 0.2])
                writer.write(raw.topic, 10**9 + raw.offset_ns - 1, arm)
            writer.write(raw.topic, 10**9 + raw.offset_ns, message)
    records = recorded(
        tmp_path / "sensors", tiny_policy_folder, depth_unit_m=0.0001, gripper_joint="finger", gripper_open=0.04,
        ee_pose_source="tf", ee_frame="tool0",
    )  # fmt: skip
    assert len(records) == 4 and records[0].reading == {
        "depth_unit_m": 0.0001, "gripper_joint": "finger", "gripper_open": 0.04, "ee_frame": "tool0",
    }  # fmt: skip
    bag_of_calls = write(tmp_path / "bag", tmp_path / "sensors", records)
    assert main(["replay", str(bag_of_calls), "--follow", "--out", str(tmp_path / "out")]) == 0
    numbers = json.loads((tmp_path / "out" / "follow.json").read_text())
    assert numbers["verdict"] == "exact" and numbers["followed"] == 4


def test_calls_with_a_camera_on_the_hand_are_made_again(tmp_path: Path, tiny_policy_folder: Path) -> None:
    """Its poses lie beyond those that had come when the image did; one that came later must not be used."""

    def stamped_before(i: int, role: str, message: Any) -> Any:
        if role != "ee_pose":
            return message
        stamp = 10**9 + (i - 1) * STEP_NS - 7_000_000
        turn = Rotation.from_rotvec([0.0, 0.0, 0.02 * i]).as_quat()
        return bag_encoder().pose(tool_at(stamp)[:3, 3], stamp, "base", turn)

    views = [make_observation(seed=i, stamp_ns=10**9 + i * STEP_NS) for i in range(5)]
    write_bag(tmp_path / "sensors", [PUSH, *views], change=stamped_before)
    camera = "camera_color_optical_frame"
    records = recorded(tmp_path / "sensors", tiny_policy_folder, hand_frames=[camera])
    assert len(records) == 4, "with the first image there is one pose only"
    assert records[0].reading == {"hand_frames": [camera]}
    near = [record.inputs[f"ee_pose{end}"] for record in records for end in ("", "_after")]
    assert near[0] == (TOPICS["ee_pose"], 10**9 - 7_000_000) and near[1][1] == near[0][1] + STEP_NS
    bag_of_calls = write(tmp_path / "bag", tmp_path / "sensors", records)
    assert main(["replay", str(bag_of_calls), "--follow", "--out", str(tmp_path / "out")]) == 0
    numbers = json.loads((tmp_path / "out" / "follow.json").read_text())
    assert numbers["verdict"] == "exact" and numbers["followed"] == 4


def test_history_counts(records: list[CallRecord], followed: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    """A reset that the node did not have changes what stays: the comparison would see it."""
    wrong = [dataclasses.replace(r, since_reset=[0, 1, 0, 1, 2][i]) if i < 5 else r for i, r in enumerate(records)]
    code, numbers = followed(wrong)
    assert code == 1 and numbers["verdict"] == "different" and numbers["selections_same"] < 9
    assert numbers["first_difference"]["stamp_ns"] == records[2].stamp_ns
    assert "other tokens stayed, for the first time at call 0 after a reset" in numbers["causes"][0]


def test_actions_that_differ_are_measured(
    records: list[CallRecord], followed: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    other = records[4].actions.copy()
    other[3, 1] += 0.25
    wrong = [dataclasses.replace(r, **({"actions": other} if i == 4 else {})) for i, r in enumerate(records)]
    torch.set_num_threads(2)  # with which layers are packed and round otherwise
    code, numbers = followed(wrong)
    assert torch.get_num_threads() == records[0].node["torch_threads"] == 1
    assert code == 1 and numbers["actions_exact"] == 8 and numbers["selections_same"] == 9
    assert numbers["largest_difference"] == {"x_m_s": 0, "y_m_s": 0.25, "z_m_s": 0, "gripper": 0}
    assert numbers["causes"] == ["none is known: device, threads, torch and CPU are the same"]


def test_rounding_is_no_difference(
    records: list[CallRecord], followed: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    node = {**records[0].node, "torch": "2.0.0"}
    near = [dataclasses.replace(r, actions=r.actions + np.float32(3e-6), node=node) for r in records]
    code, numbers = followed(near)
    assert code == 0 and numbers["verdict"] == "within float tolerance" and numbers["actions_exact"] == 0
    assert "torch: 2.0.0 live" in numbers["causes"][0]


def test_calls_without_their_messages_or_history_are_left_out_and_said(
    records: list[CallRecord], followed: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    lost = {(TOPICS["depth"], records[1].stamp_ns)}
    code, numbers = followed([r for i, r in enumerate(records) if i != 6], lost=lost)
    assert code == 0 and numbers["verdict"] == "exact" and numbers["followed"] == 1 + 1 + 2
    assert numbers["skipped"] == {"after a call that is missing": 3, "not in the bag: /simulator/depth": 1}


def test_recording_that_begins_within_an_episode_says_what_to_do(
    records: list[CallRecord], sensors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write(tmp_path / "bag", sensors, records[1:5])
    assert main(["replay", str(bag), "--follow", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "before the first reset in the bag: 4" in error and "~/reset" in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--keep", "0.3"], "--keep does not go with --follow"),
        (["--remap", "image:=/eye"], "--remap does not go with --follow"),
        (["--live"], "--live and --follow do not go together"),
        (["--policy", "small"], "has fingerprint"),
    ],
)
def test_what_the_node_decided_cannot_be_asked_for(
    records: list[CallRecord], sensors: Path, tmp_path: Path, arguments: list[str], says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bag = write(tmp_path / "bag", sensors, records)
    assert main(["replay", str(bag), "--follow", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert says in capsys.readouterr().err.replace("\n", " ")


def test_bag_without_calls_is_refused(sensors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(sensors), "--follow"]) == 2
    error = capsys.readouterr().err
    assert "no records of policy calls" in error and "~/call" in error and "/simulator/image" in error
