"""A node that cannot be started says why in one line; what it was told at start is taken as a whole."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")

from live_graph import LiveGraph, graph, ros  # noqa: F401
from rclpy.parameter import Parameter

from mvla_pruned_ros.node.start import check_parameter_files, print_help

# Forked from one server that has loaded the libraries: starting the executable anew takes seconds.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["mvla_pruned_ros.node.policy_node"])


def executable_process(arguments: tuple[str, ...], environment: dict[str, str | None], output: str) -> None:
    """The child: the executable's own main."""
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["policy_node", "--ros-args", *arguments]
    from mvla_pruned_ros.node import executable

    executable.main()


def start(folder: Path, *arguments: str, **environment: str | None) -> tuple[int | None, list[str]]:
    """Exit code of the executable, which is to end by itself, and what it printed but for rcl's own lines."""
    output = folder / "output"
    process = PROCESSES.Process(target=executable_process, args=(arguments, environment, str(output)), daemon=True)
    process.start()
    process.join(60)
    return process.exitcode, [line for line in output.read_text().splitlines() if "[rcl]" not in line]


def write(folder: Path, text: str) -> str:
    (folder / "robot.yaml").write_text(text)
    return str(folder / "robot.yaml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "Error opening YAML file"),
        ("policy: [\n", "Couldn't parse params file"),
        (
            "/**:\n  ros__parameters:\n    workspace_lower: [0, -1.5, 0]\n",
            "write all numbers of a list with a decimal point",
        ),
        (
            "policy_node:\n  ros__parameters:\n    max_speed_m_s: 0.05\n",
            "has nothing for /policy; it names /policy_node",
        ),
        ("/**:\n  ros__parameters:\n    max_sped_m_s: 0.05\n", "did you mean 'max_speed_m_s'?"),
        ("/**:\n  ros__parameters:\n    max_speed_m_s: fast\n", "expecting type 'DOUBLE'"),
        ("/**:\n  ros__parameters:\n    max_speed_m_s: 99\n", "out of range Min: 0.0, Max: 10.0"),
    ],
)
def test_parameter_file_that_does_not_hold_is_named_in_one_line(tmp_path: Path, text: str | None, reason: str) -> None:
    file = str(tmp_path / "absent.yaml") if text is None else write(tmp_path, text)
    code, lines = start(tmp_path, "--params-file", file)
    assert code == 1 and len(lines) == 1 and lines[0].startswith("policy: ") and reason in lines[0], lines


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-p", "keep_ratio=0.5"], "-p name:=value"),
        (["-p", "kep_ratio:=0.5"], "did you mean 'keep_ratio'?"),
        (["-r", "__ns:=bad//ns"], "Couldn't parse remap rule"),
        (["-p", "qos_overrides./policy/image.subscription.reliabilty:=reliable"], "reliability'?"),
        (["-p", "qos_overrides./policy/image.subscription.reliability:=relable"], "`relable`"),
        (["-p", "qos_overrides./policy/imge.subscription.reliability:=reliable"], "did you mean"),
    ],
)
def test_argument_that_does_not_hold_is_named_in_one_line(tmp_path: Path, arguments: list[str], reason: str) -> None:
    code, lines = start(tmp_path, *arguments)
    assert code == 1 and len(lines) == 1 and lines[0].startswith("policy: ") and reason in lines[0], lines


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"ROS_DOMAIN_ID": "left"}, "ROS_DOMAIN_ID is 'left'"),
        ({"ROS_DOMAIN_ID": "500"}, "from 0 to 232"),
        ({"HOME": None, "ROS_LOG_DIR": None, "ROS_HOME": None}, "set ROS_LOG_DIR"),
        ({"ROS_LOG_DIR": "/proc/nowhere"}, "set ROS_LOG_DIR"),
    ],
)
def test_environment_that_does_not_hold_is_named_in_one_line(
    tmp_path: Path, environment: dict[str, str | None], reason: str
) -> None:
    code, lines = start(tmp_path, **environment)
    assert code == 1 and "Traceback" not in " ".join(lines) and reason in lines[-1]


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("/**:\n  ros__parameters: {}\n", True),
        ("/left/policy:\n  ros__parameters: {}\n", True),
        ("left:\n  policy:\n    ros__parameters: {}\n", True),
        ("/**/policy:\n  ros__parameters: {}\n", True),
        ("/*/policy:\n  ros__parameters: {}\n", True),
        ("/left:\n  '*':\n    ros__parameters: {}\n", True),
        ("policy:\n  ros__parameters: {}\n", False),
        ("/right/policy:\n  ros__parameters: {}\n", False),
        ("/*:\n  ros__parameters: {}\n", False),
        ("/**/policy_node:\n  ros__parameters: {}\n/right/policy:\n  ros__parameters: {}\n", False),
        ("ros__parameters: {}\n", False),
    ],
)
def test_names_in_a_parameter_file_are_read_as_rcl_reads_them(tmp_path: Path, text: str, fits: bool) -> None:
    arguments = ["policy_node", "--ros-args", "--params-file", write(tmp_path, text)]
    if fits:
        check_parameter_files(arguments, "/left/policy")
    else:
        with pytest.raises(ValueError, match="has nothing for /left/policy"):
            check_parameter_files(arguments, "/left/policy")


def test_whole_numbers_stand_for_floats_at_start_and_live(graph: LiveGraph) -> None:
    node = graph.node(["--ros-args", "-p", "keep_ratio:=1", "-p", "workspace_lower:=[-1, -1, 0]"])
    assert node.get_parameter("keep_ratio").value == 1.0
    assert node.get_parameter("workspace_lower").value == [-1.0, -1.0, 0.0]
    assert node.set_parameters([Parameter("max_speed_m_s", value=1)])[0].successful
    assert node._settings()["max_speed_m_s"] == 1.0 and isinstance(node._settings()["max_speed_m_s"], float)
    assert not node.set_parameters([Parameter("keep_ratio", value=True)])[0].successful


def test_ctrl_c_while_libraries_are_loaded_is_quiet() -> None:
    code = (
        "import sys\nfrom mvla_pruned_ros.node import executable\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'rclpy':\n            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Slow())\nexecutable.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize(("older", "names"), [(True, 2), (False, 1)])
def test_profile_with_room_for_images_is_named_by_the_variables_that_are_read(
    monkeypatch: pytest.MonkeyPatch, older: bool, names: int
) -> None:
    """Fast DDS before 3 (ROS Jazzy) reads only the older one."""
    from mvla_pruned_ros.node import environment

    for name in environment.PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment, "reads_older_variable", lambda: older)
    environment.prepare_environment()
    found = [os.environ[name] for name in environment.PROFILE_VARIABLES if name in os.environ]
    assert len(found) == names and len(set(found)) == 1 and Path(found[0]).name == "fastdds.xml"
    assert environment.PROFILE_VARIABLES[0] in os.environ


def test_help_says_how_a_node_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_help(["policy_node", "--help"], "policy_node", "Runs a policy.")
    assert "--params-file FILE" in capsys.readouterr().out
    for arguments in ([], ["--ros-args", "-p", "device:=cpu"], ["--ros-args", "--help"]):  # rclpy's own, if any
        assert not print_help(["policy_node", *arguments], "policy_node", "Runs a policy.")
    assert not capsys.readouterr().out
