"""``mvla preflight BAG``: the same faults in a recording, without ROS; a healthy one is well."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bags import numbers_of, write_bag
from preflight_robot import CAMERA, INSTRUCTION, moved, observation

from mvla_pruned_ros.bags.reader import Bag
from mvla_pruned_ros.bags.setup import BagSetup
from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.policy.runtime import PolicyRuntime, WarmUp
from mvla_pruned_ros.policy.source import PolicySource
from mvla_pruned_ros.preflight.bag_evidence import evidence_of_bag
from mvla_pruned_ros.preflight.finding import Finding, Level, table
from mvla_pruned_ros.preflight.report import Report, Subject, report_of
from mvla_pruned_ros.pruning.baselines.simple import NoPruning

FRAMES, SECOND_NS, T0 = 4, 10**9, 1_700_000_000_000_000_000
POSE = CAMERA.base_from_camera
FAIL, WARN, UNKNOWN = Level.FAIL, Level.WARN, Level.UNKNOWN
Change = Callable[[int, str, Any], Any]


@pytest.fixture(scope="module")
def subject() -> Subject:
    policy = PolicySource.of("small").load("cpu")
    return Subject(PolicyRuntime(policy, NoPruning()), WarmUp(5.0, 4.0, 3.0))


def scene() -> list[Any]:
    """Frames of a healthy robot at 10 Hz, after the instruction."""
    seen = observation()
    return [INSTRUCTION, *(replace(seen, stamp_ns=T0 + i * SECOND_NS // 10) for i in range(FRAMES))]


def report(folder: Path, subject: Subject, setup: BagSetup, **bag: Any) -> Report:
    write_bag(folder / "bag", scene(), **bag)
    with Bag(folder / "bag") as recorded:
        evidence, parents, (words, given_by) = evidence_of_bag(recorded, setup, 5.0)
    return report_of(evidence, replace(subject, instruction=words, given_by=given_by), parents)


def of_role(role: str, alter: Callable[[int, Any], None]) -> Change:
    def change(i: int, name: str, message: Any) -> Any:
        if name in role.split():
            alter(i, message)
        return message

    return change


def shift(seconds: float) -> Callable[[int, Any], None]:
    def alter(i: int, message: Any) -> None:
        stamp = message.header.stamp
        stamp.sec, stamp.nanosec = divmod(stamp.sec * SECOND_NS + stamp.nanosec + round(seconds * 1e9), SECOND_NS)

    return alter


def fields(**values: Any) -> Callable[[int, Any], None]:
    def alter(i: int, message: Any) -> None:
        for name, value in values.items():
            setattr(message, name, value)

    return alter


def frame(name: str, every: int = 1) -> Callable[[int, Any], None]:
    def alter(i: int, message: Any) -> None:
        if i % every == 0:
            message.header.frame_id = name

    return alter


GOOD = BagSetup(base_from_camera=POSE)
TF = {"extrinsics_source": "tf", "base_from_camera": None}
FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str, Level, str, str]] = {
    "clock of the arm behind": (
        {"change": of_role("ee_pose", shift(-9.26))}, {}, "ee_pose", FAIL,
        r"nearest /simulator/ee_pose is 9\.\d\d s away from the image by its stamp, behind it: clocks", "chronyc",
    ),
    "info of another camera": (
        {"change": of_role("camera_info", frame("other"))}, {}, "camera_info", FAIL,
        "these are two cameras", "camera info",
    ),
    "distorted image": (
        {"change": of_role("camera_info", fields(d=np.array([0.3, -0.1, 0, 0, 0])))}, {}, "camera_info", FAIL,
        "not rectified", "image_proc rectify_node",
    ),
    "half of the images refused": (
        {"change": lambda i, role, m: fields(encoding="8UC3")(i, m) or m if role == "image" and i % 2 else m}, {},
        "observations", WARN, "2 of 4 not used: colour image has encoding '8UC3'", "rgb8",
    ),
    "gripper in metres": (
        {"change": of_role("gripper", fields(position=np.array([0.035])))}, {}, "gripper", WARN, "taken for 4% open",
        "gripper_open: 0.04",
    ),
    "gripper of another robot": (
        {}, {"gripper_joint": "panda_finger"}, "gripper", FAIL, "no joint 'panda_finger'", "gripper_joint: gripper",
    ),
    "topic that is not there": (
        {}, {"topics": {"image": "/camera/image"}}, "image", FAIL, "/camera/image is not in the bag",
        "--remap image:=/simulator/image",
    ),
    "topic of another type": (
        {}, {"topics": {"gripper": "/simulator/ee_pose"}}, "gripper", FAIL, "has type geometry_msgs/msg/PoseStamped",
        "--remap gripper:=/simulator/gripper",
    ),
    "extrinsics not given": ({}, {"base_from_camera": None}, "observations", FAIL, "not given", "extrinsics:"),
    "camera 5 cm beside": (
        {}, {"base_from_camera": moved((-0.05, 0, 0)).base_from_camera}, "extrinsics", FAIL, "cm to the left", "png",
    ),
    "depth in another unit": (
        {"change": of_role("depth", lambda i, m: setattr(m, "data", (m.data.view("<f4") * 10).view(np.uint8)))}, {},
        "workspace", FAIL, "^0 of", "depth_unit_m: 0.0001",
    ),
    "tf without the camera": (
        {"transforms": [(0, "world", "base", np.eye(4))]}, TF, "tf", FAIL,
        "tf has no frame 'camera_color_optical_frame'", "static_transform_publisher",
    ),
    "tf in two trees": (
        {"transforms": [(0, "world", "base", np.eye(4)), (0, "camera_link", "camera_color_optical_frame", POSE)]}, TF,
        "tf", FAIL, "no transform joins 'camera_color_optical_frame', which hangs below 'camera_link'",
        "--frame-id base --child-frame-id camera_link",
    ),
    "end effector under another name": (
        {"transforms": [(0, "base", "tool_0", np.eye(4))]}, {"ee_pose_source": "tf", "ee_frame": "tool0"}, "tf", FAIL,
        "end effector: tf has no frame 'tool0'", "ee_frame: tool_0",
    ),
    "twist of the tool": (
        {"commands": True, "change": of_role("twist", frame("tool0"))}, {}, "twist", WARN,
        r"recorded twists cannot be used: in frame 'tool0'", "ee_frame",
    ),
    "instruction left out": (
        {}, {"topics": {"instruction": "/task"}, "instruction": ""}, "instruction", WARN, "there is none on /task",
        "--instruction WORDS",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_named_with_its_remedy(name: str, subject: Subject, tmp_path: Path) -> None:
    bag, setup, check, level, says, remedy = FAULTS[name]
    found = report(tmp_path, subject, replace(GOOD, **setup), **bag).findings
    text = "\n".join(table(found))
    hits = [f for f in found if f.check == check and f.level is level and re.search(says, f.found)]
    assert hits, text
    assert any(remedy in f.remedy for f in hits), text


def test_healthy_bag_is_well(subject: Subject, tmp_path: Path) -> None:
    found = report(tmp_path, subject, GOOD).findings
    assert {finding.level for finding in found} == {Level.OK}, "\n".join(table(found))


def test_transforms_of_a_healthy_bag_are_found(subject: Subject, tmp_path: Path) -> None:
    chain = [(0, "base", "camera_link", np.eye(4)), (0, "camera_link", "camera_color_optical_frame", POSE)]
    found = report(tmp_path, subject, replace(GOOD, **TF), transforms=chain).findings
    assert {finding.level for finding in found} == {Level.OK}, "\n".join(table(found))
    assert any(finding.check == "tf" for finding in found)


def command(folder: Path, *words: str) -> list[str]:
    return ["preflight", str(folder / "bag"), "--device", "cpu", "--out", str(folder / "out"), *words]


def test_command_prints_the_table_and_draws_the_scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    write_bag(tmp_path / "bag", scene(), change=of_role("gripper", fields(position=np.array([0.035]))))
    given = ["--extrinsics", *map(str, numbers_of(POSE))]
    assert main(command(tmp_path, *given)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "OK   image         /simulator/image, sensor_msgs/msg/Image, 10.0 Hz, 128 x 128 rgb8" in "\n".join(lines)
    [i] = [i for i, line in enumerate(lines) if line.startswith("WARN")]
    assert lines[i + 1 : i + 3] == [" " * 19 + "> gripper_closed: 0.0", lines[i + 2]]
    assert lines[i + 2].strip().startswith("> gripper_open: 0.04")
    picture = np.asarray(Image.open(tmp_path / "out" / "preflight.png"))
    assert picture.shape == (480, 960, 3)
    hand = (picture[:, :480] == (255, 40, 40)).all(-1)
    [[u, v]], _ = CAMERA.resized(480, 480).project(observation().state.position[None])
    assert np.abs(np.argwhere(hand).mean(0) - [v, u]).max() < 3, "the cross lies on the hand"
    assert (picture[:, :480] == (0, 220, 0)).all(-1).sum() > 500, "the box of the workspace"


def test_parameter_file_of_the_node_describes_a_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bag(tmp_path / "bag", scene())
    numbers = numbers_of(POSE)
    (tmp_path / "robot.yaml").write_text(
        "/**/policy:\n  ros__parameters:\n    keep_ratio: 0.25\n    gripper_joint: finger\n    extrinsics:\n"
        f"      translation: {numbers[:3]}\n      rotation_xyzw: {numbers[3:]}\n"
    )
    assert main(command(tmp_path, "--params", str(tmp_path / "robot.yaml"))) == 2
    out = capsys.readouterr().out
    assert "at keep ratio 0.25" in out and "no joint 'finger' (gripper_joint)" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["no_such_bag"], "bag no_such_bag does not exist"),
        (["bag", "--ros-args", "-r", "a:=b"], "--ros-args is for the live robot"),
        (["--instruction", "words"], "--instruction is for bags"),
        (["--params", "nowhere.yaml"], "--params nowhere.yaml is no file"),
        (["-r", "image"], "'image' is no remap"),
    ],
)
def test_what_cannot_be_looked_at_is_told_in_one_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if "--params" in words or "-r" in words or "--instruction" in words:
        pytest.importorskip("rclpy", reason="no ROS here: the live robot needs a graph")
    assert main(["preflight", "--out", str(tmp_path), *words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_damaged_bag_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bag").write_bytes(b"#ROSBAG V2.0\n")
    assert main(command(tmp_path, "--extrinsics", *map(str, numbers_of(POSE)))) == 2
    assert "rosbags-convert" in capsys.readouterr().err


def test_findings_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = table([Finding("image", Level.OK, "well"), Finding("controller", FAIL, "nobody listens", "a\nb")])
    indent = " " * 17
    assert lines == ["OK   image       well", "FAIL controller  nobody listens", f"{indent}> a", f"{indent}> b"]
