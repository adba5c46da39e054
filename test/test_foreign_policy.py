"""A policy of somebody else, from the page that shows how to write one: loaded by name, pruned, run by the node."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bags import write_bag

from mvla_pruned_ros.control.action_spaces import CommandForm
from mvla_pruned_ros.policy.base import Policy
from mvla_pruned_ros.policy.conformance import METHODS, check_policy
from mvla_pruned_ros.policy.runtime import PolicyRuntime
from mvla_pruned_ros.policy.source import PolicySource
from mvla_pruned_ros.pruning.methods import METHODS as PRUNING_METHODS
from mvla_pruned_ros.pruning.methods import make_pruner
from mvla_pruned_ros.pruning.tri_stage.config import TriStageConfig
from mvla_pruned_ros.types import CameraModel, Observation

PAGE = Path(__file__).parent.parent / "docs/your_own_policy.md"
NAME = "grid_policy:make"
VISUAL = 8 * 8 + 32
RULES = ("fastv", "divprune", "dart", "vla_pruner", "vla_adp", "specprune", "vla_cache")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Writes importable modules; ``grid_policy`` is there, word for word from the page."""
    written = []

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        written.append(name)

    [example] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    write("grid_policy", example)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield write
    for name in written:
        sys.modules.pop(name, None)


def loaded(name: str = NAME, **options: Any) -> Policy:
    return PolicySource.of(name).load(**options)


def test_keep_ratio_changes_the_tokens_it_is_given(
    module: Callable[[str, str], None], observation: Callable[..., Observation]
) -> None:
    policy: Any = loaded()
    for method in PRUNING_METHODS:
        runtime = PolicyRuntime(policy, make_pruner(method, 0.25))
        if method in RULES:
            with pytest.raises(ValueError, match="ignored the rule"):
                for seed in range(6):  # some have a rule in the first call, others only after several
                    assert runtime.infer(observation(seed)).selection.is_full
            continue
        first = runtime.infer(observation(0))
        assert policy.tokens_encoded == first.selection.num_kept == VISUAL, method
        second = runtime.infer(observation(1))
        assert policy.tokens_encoded == second.selection.num_kept == (VISUAL if method == "none" else VISUAL // 4)
        assert second.chunk.actions.shape == (16, 4) and set(second.stage_ms) >= {"tokenize", "backbone", "head"}


def test_evidence_of_a_foreign_policy_ranks_its_tokens(
    module: Callable[[str, str], None], observation: Callable[..., Observation]
) -> None:
    """What it attended to in the full call stays in the next one, rather than what it did not."""
    runtime = PolicyRuntime(loaded(), make_pruner("tri_stage", 0.25, TriStageConfig(stage_semantic=False)))
    runtime.infer(observation(0))
    selection = runtime.infer(observation(0)).selection
    assert selection.salience is not None
    returned = selection.reason == 5
    kept = selection.kept & ~returned
    assert selection.salience[kept].min() >= np.median(selection.salience[~selection.kept])


def test_names_of_folders_and_of_code_are_told_apart(module: Callable[[str, str], None], tmp_path: Path) -> None:
    assert PolicySource.of("small").folder is not None and PolicySource.of(NAME).folder is None
    (tmp_path / "odd:name").mkdir()
    assert PolicySource.of(str(tmp_path / "odd:name")).folder == tmp_path / "odd:name"
    for name in ("nowhere", "/tmp/nowhere:make", "grid_policy:", ":make", "grid_policy:make()"):
        with pytest.raises(ValueError, match="no policy"):
            PolicySource.of(name)


BROKEN = {
    "absent_package.deeper:make": "there is no module 'absent_package'.*PYTHONPATH",
    "needs_other:make": "needs_other needs a module that is absent: No module named 'never_installed'",
    "syntax:make": "importing syntax failed: SyntaxError",
    "grid_policy:build": "has no function 'build'; it has .*GridPolicy.*make",
    "grid_policy:GRID": "has no function 'GRID'",
    "raises:make": r"make\('cpu', 'auto'\) failed: RuntimeError: weights are gone",
    "exits:make": r"exits failed: SystemExit: 2",
    "exits_later:make": r"make\('cpu', 'auto'\) failed: SystemExit: 2",
    "raises:nothing": "a NoneType lacks chunk_size, action_dim",
    "lacks:no_example": "a NoExample lacks example; see",
    "lacks:abstract": "failed: TypeError: Can't instantiate abstract class Abstract.*act",
    "lacks:step": "step_s is 0, must be a positive number",
    "lacks:shape": r"actions of \(3, 4\), must be \(16, 4\)",
    "lacks:evidence": "48 visual tokens were kept, but evidence is of 96",
    "lacks:layout": r"layout.point_positions is \(32, 2\), must be \(32, 3\)",
    "lacks:spacing": "layout.spacing is -0.1, must be the metres between neighbouring tokens",
    "lacks:views": r"layout.views is \('image',\), and the policy says that it takes \('front',\)",
    "lacks:proprio": r"proprio is \('elbow',\), must be a tuple of names among ee_position, ",
    "lacks:own_example": "cannot act on its own example: ValueError: 'pull': this policy can only push",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_fit_is_named(name: str, module: Callable[[str, str], None]) -> None:
    module("needs_other", "import never_installed\n")
    module("syntax", "def make(:\n")
    module("raises", "def make(device, precision):\n    raise RuntimeError('weights are gone')\n"
           "def nothing(device, precision): pass\n")  # fmt: skip
    module("exits", "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('weights')\n"
           "parser.parse_args([])\ndef make(device, precision): pass\n")  # fmt: skip
    module("exits_later", "import sys\ndef make(device, precision):\n    sys.exit(2)\n")
    module("lacks", "import dataclasses\n"
           "from types import SimpleNamespace\n"
           "import numpy as np\n"
           "from grid_policy import *\n"
           "class NoExample:\n"
           "    chunk_size, action_dim, step_s, token_bucket, device, device_name, late_shapes = 8, 4, 1, 1, 0, 0, 0\n"
           "    views, proprio = ('image',), ('gripper',)\n"
           "    reset = check_instruction = prepare = act = seal = memory_mb = lambda self: None\n"
           "def no_example(device, precision): return NoExample()\n"
           "class Abstract(Policy):\n"
           "    def reset(self): pass\n"
           "def abstract(device, precision): return Abstract()\n"
           "def changed(name, change):\n"
           "    policy = GridPolicy(); old = getattr(policy, name)\n"
           "    setattr(policy, name, lambda *a: change(old(*a))); return policy\n"
           "def step(device, precision):\n"
           "    policy = GridPolicy(); policy.step_s = 0; return policy\n"
           "def shape(device, precision):\n"
           "    return changed('act', lambda o: dataclasses.replace(o, actions=o.actions[:3]))\n"
           "full = Evidence(np.ones(96, 'f4'), np.ones(96, 'f4'))\n"
           "def evidence(device, precision):\n"
           "    return changed('act', lambda o: dataclasses.replace(o, evidence=full))\n"
           "def cut(layout): return dataclasses.replace(layout, point_positions=layout.point_positions[:, :2])\n"
           "def layout(device, precision):\n"
           "    return changed('prepare', lambda p: dataclasses.replace(p, layout=cut(p.layout)))\n"
           "def scaled(layout): return dataclasses.replace(layout, spacing=-0.1)\n"
           "def spacing(device, precision):\n"
           "    return changed('prepare', lambda p: dataclasses.replace(p, layout=scaled(p.layout)))\n"
           "def views(device, precision):\n"
           "    policy = GridPolicy(); policy.views = ('front',); return policy\n"
           "def proprio(device, precision):\n"
           "    policy = GridPolicy(); policy.proprio = ('elbow',); return policy\n"
           "def own_example(device, precision):\n"
           "    return changed('example', lambda o: dataclasses.replace(o, instruction='pull'))\n")  # fmt: skip
    with pytest.raises(ValueError, match=f"(?s)policy {name}.*{BROKEN[name]}"):
        loaded(name)


def test_policies_of_this_package_conform(tiny_policy_folder: Path) -> None:
    assert check_policy(loaded(str(tiny_policy_folder)), "tiny")


def test_page_lists_every_member_of_the_interface() -> None:
    text = PAGE.read_text()
    for member in (
        *METHODS,
        "chunk_size",
        "action_dim",
        "action_space",
        "action_rotation",
        "action_frame",
        "action_position",
        "step_s",
        "token_bucket",
        "device",
        "device_name",
        "late_shapes",
        "views",
        "proprio",
    ):
        assert re.search(rf"`{member}(\(.*?\))?`", text), member


def test_actions_that_cannot_be_sent_are_refused_before_use(module: Callable[[str, str], None]) -> None:
    module("five", "from grid_policy import *\nclass Five(GridPolicy):\n    action_dim = 5\n"
           "def make(device, precision): return Five()\n")  # fmt: skip
    assert loaded("five:make").action_dim == 5
    with pytest.raises(ValueError, match="gives 5 values per action: 4 .* or 7"):
        loaded("five:make", check=partial(CommandForm, "twist"))


def test_a_policy_of_poses_says_how_and_nothing_that_there_is_not(module: Callable[[str, str], None]) -> None:
    body = "from grid_policy import *\nclass Posed(GridPolicy):\n    action_dim, action_space = 10, 'cartesian_pose'\n"
    make = "def make(device, precision): return Posed()\n"
    module("posed", f"{body}    action_rotation = 'rotation_6d'\n{make}")
    forms: list[CommandForm] = []
    loaded("posed:make", check=lambda *actions: forms.append(CommandForm("pose", *actions)))
    assert str(forms[0]) == "cartesian_pose (rotation_6d) as pose"
    module("unsaid", body + make)
    with pytest.raises(ValueError, match="policy unsaid:make: .* needs action_rotation: euler_xyz or rotation_6d"):
        loaded("unsaid:make")


def test_a_bag_is_replayed_with_it(
    module: Callable[[str, str], None],
    tmp_path: Path,
    observation: Callable[..., Observation],
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mvla_pruned_ros.cli.main import main

    frames = [observation(i, stamp_ns=(i + 1) * 10**8) for i in range(6)]
    write_bag(tmp_path / "bag", ["push the puck to the goal", *frames], commands=True)
    pose = frames[0].views[0].camera.base_from_camera
    from scipy.spatial.transform import Rotation

    extrinsics = [*pose[:3, 3], *Rotation.from_matrix(pose[:3, :3]).as_quat()]
    arguments = ["replay", str(tmp_path / "bag"), "--policy", NAME, "--keep", "0.25", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--device", "cpu", "--extrinsics", *map(str, extrinsics)]) == 0, capsys.readouterr().err
    numbers = json.loads((tmp_path / "out/replay.json").read_text())
    assert numbers["policy"] == NAME and numbers["policy_fingerprint"] is None
    assert numbers["frames"] == 6 and numbers["keep_ratio"] == pytest.approx((1 + 5 * 0.25) / 6, abs=0.01)


def test_node_runs_it_pruned_over_the_real_graph(
    module: Callable[[str, str], None], camera: Callable[..., CameraModel]
) -> None:
    pytest.importorskip("rclpy", reason="no ROS here: the node needs a graph")
    import rclpy
    from live_graph import BEST_EFFORT, FAILURE, SIZE, LiveGraph, wait_for
    from rclpy.parameter import Parameter
    from sensor_msgs.msg import Image

    from mvla_pruned_ros.node.environment import prepare_environment

    prepare_environment()
    rclpy.init()
    graph = LiveGraph(Path(NAME), camera(SIZE, SIZE))
    try:
        assert graph.node(device="cuda:7").trigger_configure() == FAILURE  # it says so itself
        node = graph.active(method="tri_stage", keep_ratio=0.5, max_observation_age_ms=5000.0)
        robot, policy = graph.robot, node._loaded.policy
        pictures: list[Image] = []
        robot.create_subscription(Image, "/policy/overlay", pictures.append, BEST_EFFORT)
        assert robot.drive(lambda: len(robot.calls) > 2 and max(robot.speeds, default=0.0) > 0, timeout_s=30.0), (
            robot.status
        )
        call = robot.calls[-1]
        assert (call["image_in"], call["points_in"]) == (64, 32)
        assert call["image_kept"] + call["points_kept"] == policy.tokens_encoded == VISUAL // 2
        assert robot.drive(lambda: pictures, timeout_s=20.0) and pictures[-1].width == 2 * 192

        assert node.set_parameters([Parameter("keep_ratio", value=0.25)])[0].successful
        assert robot.drive(lambda: robot.calls[-1]["keep_ratio"] == 0.25, timeout_s=20.0)
        assert policy.tokens_encoded == VISUAL // 4

        refused = node.set_parameters([Parameter("instruction", value="pull the lever")])[0]
        assert not refused.successful and "can only push" in refused.reason
        assert not node.set_parameters([Parameter("policy", value="other:make")])[0].successful
        assert wait_for(lambda: robot.values().get("late_shapes") == "0" and robot.values()["device"] == "cpu")
    finally:
        graph.close()
        rclpy.try_shutdown()
