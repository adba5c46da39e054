"""Replay without ROS: the actions of the core, the same bytes twice, a page without a network, a bag for Foxglove."""

from __future__ import annotations

import json
from collections.abc import Callable
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
from mvla_pruned_ros.sim.metaworld.viewpoint import camera_pose
from mvla_pruned_ros.types import ArmState, Observation

PUSH = "push the puck to the goal"
STEP_S, STEP_NS = 0.0125, 50_000_000


@pytest.fixture(scope="module")
def bag_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from conftest import make_observation

    folder = tmp_path_factory.mktemp("bags") / "bag"
    views = [make_observation(seed=i, stamp_ns=10**9 + i * STEP_NS) for i in range(7)]
    write_bag(folder, [PUSH, *views], commands=True)
    return folder


def actions_of(folder: Path, chunk: int, without: set[str] = frozenset()) -> list[np.ndarray | None]:  # type: ignore[assignment]
    with Bag(folder) as bag:
        events = BagFrames(bag, BagSetup(base_from_camera=camera_pose()), signals=True)
        return [actions for _, actions in labelled(events, set(events.roles) - without, ActionForm(), 4, chunk, STEP_S)]


def test_recorded_actions_are_those_of_the_steps_of_a_chunk(bag_folder: Path) -> None:
    labels = actions_of(bag_folder, 6)
    assert [label is None for label in labels] == [False] * 6 + [True]  # the recording ends within the last chunk
    for i, label in enumerate(labels[:6]):
        assert label is not None and label.dtype == np.float32
        np.testing.assert_allclose(label[:, 0], 0.001 * (4 * i + np.arange(6)), rtol=1e-6)
        np.testing.assert_allclose(label[:, 3], [-1.0 if 4 * i + k < 8 else 1.0 for k in range(6)])


def test_without_a_twist_the_pose_tells_the_velocity(tmp_path: Path, observation: Callable[..., Observation]) -> None:
    views = [
        observation(
            seed=i, stamp_ns=10**9 + i * STEP_NS, state=ArmState(np.array([0.01 * i, 0.6, 0.2], np.float32), 0.25)
        )
        for i in range(5)
    ]
    write_bag(tmp_path / "bag", [PUSH, *views])
    labels = actions_of(tmp_path / "bag", 6, without={"twist", "gripper_command"})
    assert [label is None for label in labels] == [False, False, False, True, True]
    np.testing.assert_allclose(labels[0], np.tile([0.2, 0, 0, 0.5], (6, 1)), atol=1e-5)


def test_nothing_is_made_up_across_a_pause(tmp_path: Path, observation: Callable[..., Observation]) -> None:
    views = [observation(seed=i, stamp_ns=10**9 + t * STEP_NS) for i, t in enumerate((0, 1, 2, 20, 21, 22))]
    write_bag(tmp_path / "bag", [PUSH, *views], commands=True)
    # A command holds for a quarter of a second, as on the simulated arm, and not across the whole pause.
    labels = actions_of(tmp_path / "bag", 28)
    assert [label is None for label in labels] == [False, False, True, True, True, True]
    assert labels[0] is not None and len(np.unique(labels[0][12:, 0])) == 1


@pytest.fixture(scope="module")
def replayed(bag_folder: Path, tiny_policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same command twice."""
    root = tmp_path_factory.mktemp("replay")
    for name in "ab":
        arguments = [str(bag_folder), "--policy", str(tiny_policy_folder), "--keep", "0.35", "--out", str(root / name)]
        assert main(["replay", *arguments]) == 0
    return [root / "a", root / "b"]


def test_figures_are_the_same_bytes_when_run_again(replayed: list[Path]) -> None:
    for name in ("replay.json", "frames.jsonl"):
        assert (replayed[0] / name).read_bytes() == (replayed[1] / name).read_bytes()
    assert "_ms" not in (replayed[0] / "frames.jsonl").read_text()
    timings = json.loads((replayed[0] / "timings.json").read_text())
    assert timings["times_real_time"] == pytest.approx(timings["bag_s"] / timings["replay_s"])
    assert all(timings[name]["p50"] > 0 for name in ("prepare_ms", "pruned_ms", "full_ms"))


def test_figures_are_those_of_the_core(replayed: list[Path], bag_folder: Path, tiny_policy_folder: Path) -> None:
    from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
    from mvla_pruned_ros.policy.runtime import PolicyRuntime
    from mvla_pruned_ros.pruning.methods import make_pruner
    from mvla_pruned_ros.pruning.tri_stage.config import TriStageConfig

    policy = MVLAPolicy.load(tiny_policy_folder)
    config = TriStageConfig.of_policy(tiny_policy_folder)
    pruned = PolicyRuntime(policy, make_pruner("tri_stage", 0.35, config))
    full = PolicyRuntime(policy, make_pruner("none", 1.0))
    with Bag(bag_folder) as bag:
        frames = [e for e in BagFrames(bag, BagSetup(base_from_camera=camera_pose())) if isinstance(e, BagFrame)]
    errors, unpruned = [], []
    for frame in frames:
        unpruned.append(full.infer(frame.observation).chunk.actions)
        errors.append(np.abs(pruned.infer(frame.observation).chunk.actions - unpruned[-1]))
    numbers = json.loads((replayed[0] / "replay.json").read_text())
    assert numbers["frames"] == 7 and numbers["episodes"] == 1 and numbers["keep_ratio"] < 0.6
    got: dict[str, Any] = numbers["pruned_to_unpruned"]
    mean, std = np.concatenate(errors).mean(0), np.concatenate(unpruned).std(0)
    np.testing.assert_allclose(list(got["mean_abs"].values()), mean, rtol=1e-4)
    np.testing.assert_allclose(list(got["max_abs"].values()), np.concatenate(errors).max(0), rtol=1e-4)
    np.testing.assert_allclose(list(got["mean_abs_in_std"].values()), mean / std, rtol=1e-3)
    assert mean.max() > 0
    rows = [json.loads(line) for line in (replayed[0] / "frames.jsonl").read_text().splitlines()]
    assert rows[0]["error_max"] == [0, 0, 0, 0], "the first call of an episode is full"
    np.testing.assert_allclose(rows[3]["error_mean"], errors[3].mean(0), rtol=1e-4)
    # Chunks of 16 steps are recorded in full for the first four of seven frames that are four steps apart.
    assert numbers["pruned_to_recorded"]["actions"] == 16 * 4


def test_page_fetches_nothing(replayed: list[Path]) -> None:
    page = (replayed[0] / "replay.html").read_text()
    assert page.count("<img src='data:image") == 6 and page.count("plotly-graph-div") >= 3
    assert "Every picture of the bag was used" in page
    assert "default-src 'none'" in page and "plotly.js v" in page[:20_000]


def test_annotated_bag_has_what_stays(replayed: list[Path]) -> None:
    rows = [json.loads(line) for line in (replayed[0] / "frames.jsonl").read_text().splitlines()]
    with Bag(replayed[0] / "annotated") as bag:
        assert set(bag.counts.values()) == {7}
        clouds = [bag.decode(m) for m in bag.messages({"/mvla/kept_points"})]
    assert [cloud.width for cloud in clouds] == [row["points_kept"] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--keep", "0"], "keep ratio"),
        (["--method", "random", "--set", "window=2"], "--set is for method tri_stage"),
        (["--rate", "2"], "--rate 2.0 is for --live"),
        (["--frames", "0"], "--frames: must be at least 1"),
        (["--remap", "image:=/eye"], "no topic for image (/eye)"),
    ],
)
def test_wrong_arguments_end_in_one_clear_line(
    bag_folder: Path, tmp_path: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pose = ["--extrinsics", *["0", "0", "0", "0", "0", "0", "1"]]
    assert main(["replay", str(bag_folder), "--out", str(tmp_path), *pose, *arguments]) == 2
    assert says in capsys.readouterr().err.replace("\n", " ")
