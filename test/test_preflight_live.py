"""``mvla preflight`` on the live graph: planted faults are found, named and remedied; a healthy robot is well."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="no ROS here: the live robot needs a graph")

from planted_faults import FAULTS, TOGETHER
from preflight_graph import PreflightGraph, Robot, connected, of
from preflight_robot import INSTRUCTION, extrinsics
from rclpy.node import Node

from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.node.environment import (
    fast_dds_profile,
    middleware_problems,
    prepare_environment,
    reads_older_variable,
)
from mvla_pruned_ros.node.loading import load_policy
from mvla_pruned_ros.node.parameters import SPECS, Settings
from mvla_pruned_ros.preflight.finding import Level, exit_code, table

CODES = {Level.FAIL: 2, Level.WARN: 1, Level.UNKNOWN: 0}


@pytest.fixture(scope="module", autouse=True)
def own_domain() -> Iterator[None]:
    """Nodes of other tests must not be seen: they share the process, and may be about to go."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ROS_DOMAIN_ID", str(1 + (os.getpid() + 50) % 100))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def graph() -> PreflightGraph:
    prepare_environment()
    values = {name: spec.default for name, spec in SPECS.items()} | {"policy": "small", "device": "cpu"}
    return PreflightGraph(load_policy(Settings.of(values), print))


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_named_with_its_remedy(name: str, graph: PreflightGraph) -> None:
    planted, check, level, says, remedy = FAULTS[name]
    report = graph.look(**planted)
    text = "\n".join(table(report.findings))
    found = [finding for finding in of(report, check) if finding.level is level and re.search(says, finding.found)]
    assert found, text
    assert any(remedy in finding.remedy or re.search(remedy, finding.remedy) for finding in found), text
    assert exit_code(report.findings) >= CODES[level]
    assert graph.robot is not None and not graph.robot.told, "something was sent to the controller"


@pytest.mark.parametrize("name", TOGETHER)
def test_faults_at_once_are_all_named(name: str, graph: PreflightGraph) -> None:
    planted, expected = TOGETHER[name]
    report = graph.look(**planted)
    for check, says, remedy in expected:
        found = [finding for finding in of(report, check) if re.search(says, finding.found)]
        assert found and found[0].level is Level.FAIL, "\n".join(table(report.findings))
        assert remedy in found[0].remedy


def test_healthy_robot_is_well_and_nothing_moves(graph: PreflightGraph) -> None:
    ends: list[Any] = []

    def look_around(node: Node, robot: Robot) -> bool:
        if not connected(node, robot) or "policy" not in robot.get_node_names():
            return False
        subscribed = [name for name, _ in robot.get_subscriber_names_and_types_by_node("policy", "/")]
        if "/policy/instruction" not in subscribed:  # the last that the node makes: by then all is known
            return False
        publishers = robot.get_publisher_names_and_types_by_node("policy", "/")
        services = robot.get_service_names_and_types_by_node("policy", "/")
        clients = robot.get_client_names_and_types_by_node("policy", "/")
        ends.append((publishers, services, clients))
        return True

    report = graph.look(ready=look_around, once=("camera_info",))
    text = "\n".join(table(report.findings))
    assert {finding.level for finding in report.findings} == {Level.OK}, text
    assert exit_code(report.findings) == 0
    checks = [finding.check for finding in report.findings]
    assert checks == [
        "graph", "clock", "middleware", "image", "camera_info", "ee_pose", "gripper", "depth", "observations",
        "workspace", "extrinsics", "instruction", "policy", "deadline", "controller", "gripper command",
    ]  # fmt: skip
    assert "sent once" in text and "no distortion" in text and "9% invalid" in text
    assert graph.robot is not None and not graph.robot.told, "something was sent to the controller"
    [(publishers, services, clients)] = ends
    assert [name for name, _ in publishers] == ["/parameter_events"]
    assert not [name for name, _ in services if "type_description" not in name] and not clients


class Buffer:
    """In the place of that of tf2_ros, of which there is no wheel: what a look asks of it."""

    tree = ""

    def lookup_transform(self, target: str, source: str, time: Any) -> Any:
        raise KeyError(f"no transform from {source} to {target}")

    def all_frames_as_yaml(self) -> str:
        return self.tree

    def clear(self) -> None:
        pass


@pytest.fixture
def tf2(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tf2_ros")
    listener = type("Listener", (), {"unregister": lambda self: None})
    for name, value in {
        "TransformException": KeyError, "Buffer": Buffer, "TransformListener": lambda buffer, node: listener()
    }.items():  # fmt: skip
        monkeypatch.setattr(module, name, value, raising=False)
    monkeypatch.setitem(sys.modules, "tf2_ros", module)


OF_TF = {"extrinsics_source": "tf", "extrinsics.translation": None, "extrinsics.rotation_xyzw": None}


def test_missing_link_of_tf_is_named(graph: PreflightGraph, tf2: None, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = "camera_color_optical_frame:\n  parent: 'camera_link'\ntool0:\n  parent: 'base'\n"
    monkeypatch.setattr(Buffer, "tree", tree)
    report = graph.look(**OF_TF, tf_timeout_ms=1.0)
    [link] = of(report, "tf")
    assert link.level is Level.FAIL and "which hangs below 'camera_link', with 'base'" in link.found
    assert "--frame-id base --child-frame-id camera_link" in link.remedy
    [seen] = of(report, "observations")
    assert seen.level is Level.FAIL and "not used: 'camera_color_optical_frame' in 'base' at" in seen.found


def test_tf_without_tf2_is_told(graph: PreflightGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    [seen] = of(graph.look(**OF_TF), "observations")
    assert seen.level is Level.FAIL and "tf2_ros cannot be imported" in seen.found
    assert seen.remedy == "sudo apt install ros-$ROS_DISTRO-tf2-ros-py"


def test_robot_in_another_domain_is_not_seen(graph: PreflightGraph) -> None:
    report = graph.look(domain_id=1 + int(os.environ["ROS_DOMAIN_ID"]) % 100, ready=lambda node, robot: True)
    [seen] = of(report, "graph")
    assert seen.level is Level.FAIL and "no other node is seen, ROS_DOMAIN_ID" in seen.found
    assert "export ROS_DOMAIN_ID=N" in seen.remedy
    assert exit_code(report.findings) == 2


def test_middleware_without_a_profile_for_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "FASTRTPS_DEFAULT_PROFILES_FILE" if reads_older_variable() else "FASTDDS_DEFAULT_PROFILES_FILE"
    monkeypatch.setenv(name, str(tmp_path / "gone.xml"))
    [(text, remedy)] = middleware_problems("rmw_fastrtps_cpp", tmp_path / "no_memory_to_look_at")
    assert f"{name} is {tmp_path}/gone.xml, and there is no such file" in text and "node/fastdds.xml" in remedy
    (tmp_path / "own.xml").write_text("<profiles/>")
    monkeypatch.setenv(name, str(tmp_path / "own.xml"))
    [(text, _)] = middleware_problems("rmw_fastrtps_cpp", tmp_path / "no_memory_to_look_at")
    assert "sets no segment_size" in text
    monkeypatch.delenv(name)
    found = middleware_problems("rmw_fastrtps_cpp", Path("/proc"))  # which has no byte left
    assert [text.split(":")[0] for text, _ in found] == [f"{name} is not set", "/proc has 0 MB left, a node takes 32"]
    assert not middleware_problems("rmw_cyclonedds_cpp")
    monkeypatch.setenv(name, str(fast_dds_profile()))
    assert not middleware_problems("rmw_fastrtps_cpp", tmp_path / "no_memory_to_look_at")


def parameter_file(folder: Path, **parameters: Any) -> Path:
    path = folder / "robot.yaml"
    values = {"policy": "small", "device": "cpu", "instruction": INSTRUCTION, **extrinsics(), **parameters}
    lines = [f"    {name}: {value}" for name, value in values.items()]
    path.write_text("/**/policy:\n  ros__parameters:\n" + "\n".join(lines) + "\n")
    return path


def test_command_takes_files_and_remappings_as_the_node_does(
    graph: PreflightGraph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = parameter_file(tmp_path)
    words = [
        "--params",
        str(file),
        "-r",
        "~/image:=/camera/image",
        "gripper:=/hand",
        "--seconds",
        "0.4",
        "--keep",
        "0.25",
    ]
    with graph.robot_running({"image": "/camera/image", "gripper": "/hand"}) as robot:
        code = main(["preflight", *words, "--out", str(tmp_path / "out"), "--ros-args", "-p", "slow_policy_ms:=5000.0"])
    out = capsys.readouterr().out
    assert code in (0, 1), out  # a busy computer may be slow
    assert "OK   image            /camera/image, sensor_msgs/msg/Image, from /robot" in out
    assert "/hand, sensor_msgs/msg/JointState" in out and "at keep ratio 0.25" in out
    assert "FAIL" not in out and (tmp_path / "out" / "preflight.png").is_file()
    assert not robot.told, "something was sent to the controller"


def test_words_that_the_policy_does_not_know_and_a_topic_that_is_not_there(
    graph: PreflightGraph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policy is called all the same, and images that nobody publishes are not lost on the way."""
    file = parameter_file(tmp_path, instruction="juggle")
    with graph.robot_running({"image": "/camera/image"}):
        assert main(["preflight", "--params", str(file), "--seconds", "0.5", "--out", str(tmp_path)]) == 2
    lines = capsys.readouterr().out.splitlines()
    failed = [line.split()[1] for line in lines if line.startswith("FAIL")]
    assert failed == ["image", "observations", "instruction"], lines
    assert any(line.startswith("OK   policy") and "on an example" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("/left/policy:\n  ros__parameters:\n    policy: small\n", "has nothing for /policy; it names /left/policy"),
        ("/**/policy:\n  ros__parameters:\n    max_speed: 0.1\n", "unknown parameter 'max_speed': did you mean"),
        ("/**/policy:\n  ros__parameters:\n    keep_ratio: 1.5\n", "keep_ratio"),
        ("/**/policy:\n  ros__parameters:\n    workspace_lower: [0, -1.5, 0]\n", "decimal point"),
    ],
)
def test_parameters_that_do_not_hold_together(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "robot.yaml").write_text(text)
    assert main(["preflight", "--params", str(tmp_path / "robot.yaml"), "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mvla preflight: error: ") and says in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("parameters", "says", "remedy"),
    [
        ({"policy": "package_of_nobody:factory"}, "package_of_nobody", "> "),
        ({"device": "cuda:99"}, "device 'cuda:99' was asked for", "> device: cpu"),
        ({"command_interface": "joint_trajectory"}, "cannot carry actions of the space cartesian_velocity", "> "),
    ],
)
def test_policy_that_cannot_be_used_leaves_the_other_checks(
    parameters: dict[str, Any], says: str, remedy: str, graph: PreflightGraph, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = parameter_file(tmp_path, **parameters)
    with graph.robot_running({}):
        code = main(["preflight", "--params", str(file), "--seconds", "0.3", "--out", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    [i] = [i for i, line in enumerate(lines) if line.startswith("FAIL policy")]
    assert code == 2 and says in lines[i] and remedy in lines[i + 1]
    assert any(line.startswith("?    deadline") for line in lines)
    assert any(line.startswith("OK   extrinsics") for line in lines)
