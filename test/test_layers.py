"""Imports point one way, and a file is where its name says. docs/architecture.md is the picture of it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import mvla_pruned_ros

PACKAGE = Path(mvla_pruned_ros.__file__).parent
NAME = "mvla_pruned_ros"

# A part imports from lines above its own, never from its neighbours in the same line or from below.
LAYERS = (
    ("types", "models", "configuration"),
    ("geometry",),
    ("messages",),
    ("observation", "control", "pruning"),
    ("reports",),
    ("policy",),
    ("bags", "viewer"),
    ("preflight",),
    ("node",),
    ("sim",),
    ("evaluation",),
    ("analysis",),
    ("replay", "training"),
    ("rigs",),
    ("cli",),
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

# Where each library may be imported; a prefix stands for all below it.
ROS_PACKAGES = {"rclpy", "launch", "launch_ros", "cv_bridge", "sensor_msgs_py", "tf2_ros", "message_filters"}
HOMES = {
    "ros": ("node", "sim/node.py", "rigs"),
    # The worker catches what a device without memory raises; the faults corrupt weights.
    "torch": ("policy", "training", "evaluation", "pruning/baselines", "pruning/in_call.py", "node/worker.py",
              "rigs/faults"),
    "libero": ("sim",),
    "metaworld": ("sim",),
    "mujoco": ("sim",),
    "rerun": ("viewer",),
}  # fmt: skip

# The same file name in two folders must mean the same part of each.
SHARED_NAMES = {
    "__init__",
    "base",  # the interface of what the folder holds
    "bench",  # the subcommand of the name, and what it runs
    "checkpoint",  # weights and what lies beside them, in and out
    "config",  # one description as a dataclass
    "convert",  # as bench
    "expert",  # a scripted one, and what it demonstrates
    "model",  # the network
    "page",  # HTML of a report
    "policy",  # the network behind the ``Policy`` interface
    "preprocess",  # an observation to the arrays of a policy
    "normalization",  # numbers to and from the range of the network
    "presets",  # named configurations
    "random_weights",  # policies that were never trained
    "reader",  # of files
    "record",  # as bench
    "robot",  # the interface, and what stands behind it
    "report",  # figures of a run, as they are written to JSON
    "run",
    "runner",  # what a subcommand runs
    "session",  # processes of one run
    "sweep",  # the same work for many tasks, on several processes
    "tables",  # as bench
    "tasks",  # all there are, and those of one simulator
    "types",
    "viewpoint",  # frames and cameras of a simulated robot
}


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


def test_every_part_is_in_the_order_of_layers() -> None:
    parts = {part_of(path) for path in modules()} - {"__init__"}
    assert parts == set(LEVEL), "a new folder needs a place in LAYERS and in docs/architecture.md"
    assert {name for _, name in imports(PACKAGE / "policy" / "mvla" / "preprocess.py")} >= {
        f"{NAME}.geometry.clouds.crop",
        f"{NAME}.policy.mvla.config.MVLAConfig",
        "numpy",
        "PIL.Image",
    }


def test_only_types_lies_beside_the_folders() -> None:
    assert {path.name for path in PACKAGE.iterdir() if path.is_file()} == {"__init__.py", "types.py", "py.typed"}


@pytest.mark.parametrize("part", sorted(LEVEL))
def test_part_imports_only_what_lies_below_it(part: str) -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path in modules()
        if part_of(path) == part
        for line, name in imports(path)
        if name.startswith(f"{NAME}.")
        and (other := name.split(".")[1]) in LEVEL
        and other != part
        and LEVEL[other] >= LEVEL[part]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", sorted(HOMES))
def test_library_is_imported_only_where_it_belongs(library: str) -> None:
    def counts(name: str) -> bool:
        root = name.split(".")[0]
        if library == "ros":
            return root in ROS_PACKAGES or root.endswith(("_msgs", "_srvs", "_interfaces"))
        return root == library

    found = {path.relative_to(PACKAGE).as_posix() for path in modules() for _, name in imports(path) if counts(name)}
    assert found, f"nothing imports {library}"
    homes = HOMES[library]
    outside = {path for path in found if not any(path == home or path.startswith(f"{home}/") for home in homes)}
    assert not outside


def test_the_node_that_runs_on_a_robot_needs_no_simulator_no_rig_and_no_report() -> None:
    """All that it imports, also indirectly."""
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    code = f"import sys, {NAME}.node.policy_node\nprint(*sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = result.stdout.split()
    ours = {name.split(".")[1] for name in loaded if name.startswith(f"{NAME}.")}
    assert ours <= {p for parts in LAYERS[:9] for p in parts} - {"bags", "preflight"}
    assert not {"mujoco", "metaworld", "plotly", "jinja2.environment", "rich", "rosbags", "rerun"} & set(loaded) - {
        "jinja2.environment"  # torch loads it
    }


def test_a_name_that_occurs_twice_plays_the_same_part() -> None:
    count = Counter(path.stem for path in modules())
    assert {name for name, times in count.items() if times > 1} <= SHARED_NAMES


def test_running_a_policy_loads_neither_ros_nor_the_simulator() -> None:
    """The same for what is imported indirectly."""
    code = (
        f"import sys, {NAME}.policy.runtime, {NAME}.policy.mvla.policy, {NAME}.pruning.methods\n"
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
