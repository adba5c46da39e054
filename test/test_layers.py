"""Imports point one way: the core knows neither ROS nor the simulator, pruning knows no policy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mvla_pruned_ros

PACKAGE = Path(mvla_pruned_ros.__file__).parent
NAME = "mvla_pruned_ros"

# What each part may import of the package; a part that is not listed may import everything.
ALLOWED = {
    "types": set(),
    "geometry": {"types"},
    "static_call": set(),
    "geometry_torch": {"static_call"},
    "chunks": {"types"},
    "pruning": {"pruning"},
    "policy": {"policy", "pruning", "geometry", "geometry_torch", "static_call", "types"},
    "runtime": {"policy", "pruning", "types"},
    "overlay": {"pruning", "types"},
    "message_bytes": set(),
    "compressed_depth": {"message_bytes"},
    "sensors": {"message_bytes"},
    "transforms": {"sensors"},
    "messages": {"message_bytes", "compressed_depth", "sensors", "geometry", "types"},
    "matching": {"messages"},
    "observer": {"matching", "messages", "sensors", "types"},
    "bag_reader": set(),
    "call_record": set(),
    "bag_writer": {"bag_reader", "types"},
    "bag_setup": {"bag_reader", "sensors", "sim"},
    "bag_frames": {"bag_reader", "bag_setup", "matching", "messages", "observer", "sensors", "transforms", "types"},
    "action_labels": {"bag_frames"},
    "models": {"models"},
    "sim": {"sim", "geometry", "types"},
    "evaluation": {"evaluation", "sim", "runtime", "chunks", "policy", "pruning", "geometry", "types", "models"},
    "analysis": {
        "analysis",
        "bag_frames",
        "evaluation",
        "overlay",
        "runtime",
        "policy",
        "pruning",
        "geometry",
        "types",
    },
    "replay": {
        "replay",
        "analysis",
        "call_record",
        "messages",
        "sensors",
        "bag_frames",
        "bag_reader",
        "bag_setup",
        "bag_writer",
        "action_labels",
        "evaluation",
        "overlay",
        "runtime",
        "policy",
        "pruning",
        "types",
    },
    "training": {
        "training",
        "action_labels",
        "bag_frames",
        "bag_reader",
        "bag_setup",
        "bag_writer",
        "evaluation",
        "sim",
        "runtime",
        "policy",
        "pruning",
        "geometry",
        "types",
        "models",
    },
}
ROS_PACKAGES = {"rclpy", "launch", "launch_ros", "cv_bridge", "sensor_msgs_py", "tf2_ros", "message_filters"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of every import, also those inside functions."""
    package = [NAME, *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:  # `from . import x` and `from .x import y` alike
                yield node.lineno, f"{module}.{alias.name}"


def test_every_part_of_the_package_is_seen() -> None:
    parts = {part_of(path) for path in modules()}
    assert {"pruning", "policy", "sim", "ros", "cli", "training", "evaluation", "runtime", "types"} <= parts
    assert {name for _, name in imports(PACKAGE / "policy" / "inputs.py")} >= {
        f"{NAME}.geometry.crop",
        f"{NAME}.policy.config.MVLAConfig",
        "numpy",
        "PIL.Image",
    }


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_part_imports_only_what_lies_below_it(part: str) -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path in modules()
        if part_of(path) == part
        for line, name in imports(path)
        if name.startswith(f"{NAME}.") and name.split(".")[1] not in ALLOWED[part]
    ]
    assert not wrong, "\n".join(wrong)


def test_ros_is_imported_only_by_the_ros_layer() -> None:
    def is_ros(name: str) -> bool:
        root = name.split(".")[0]
        return root in ROS_PACKAGES or root.endswith(("_msgs", "_srvs", "_interfaces"))

    found = {path for path in modules() for _, name in imports(path) if is_ros(name)}
    assert found, "the ROS layer imports ROS"
    outside = sorted(str(path.relative_to(PACKAGE)) for path in found if part_of(path) != "ros")
    assert not outside


def test_running_a_policy_loads_neither_ros_nor_the_simulator() -> None:
    """The same for what is imported indirectly."""
    code = (
        f"import sys, {NAME}.runtime, {NAME}.policy.mvla, {NAME}.pruning.methods\n"
        "print(sorted({'rclpy', 'mujoco', 'metaworld', 'rich', 'rosbags'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_help_of_the_command_loads_no_heavy_library() -> None:
    code = (
        f"import sys\nfrom {NAME}.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('loaded', sorted({'torch', 'open3d', 'rclpy', 'mujoco', 'transformers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().splitlines()[-1] == "loaded []"
