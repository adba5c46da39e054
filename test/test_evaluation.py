"""Closed loop without ROS: episodes are reproducible, chunks are indexed by time, rows say what was measured."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

os.environ.setdefault("MUJOCO_GL", "osmesa")
pytest.importorskip("metaworld", reason="the simulator extra is not installed: pip install .[sim]")

from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.evaluation.success.lateness import Latency
from mvla_pruned_ros.evaluation.success.rollout import DelayedControl, run_episode
from mvla_pruned_ros.evaluation.success.sweep import Setting, run_sweep
from mvla_pruned_ros.policy.fingerprint import policy_fingerprint
from mvla_pruned_ros.policy.mla.presets import MLA_PRESETS
from mvla_pruned_ros.policy.mla.random_weights import random_mla_policy
from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
from mvla_pruned_ros.policy.runtime import PolicyRuntime
from mvla_pruned_ros.pruning.methods import make_pruner
from mvla_pruned_ros.sim.metaworld.robot import MetaWorldRobot
from mvla_pruned_ros.types import ActionChunk

SMALL = Path(__file__).parents[1] / "mvla_pruned_ros" / "models" / "small"


@pytest.fixture(scope="module")
def robot() -> MetaWorldRobot:
    return MetaWorldRobot("button-press-topdown")


def runtime(method: str, keep: float) -> PolicyRuntime:
    return PolicyRuntime(MVLAPolicy.load(SMALL), make_pruner(method, keep, seed=5))


def test_shipped_policy_solves_a_task_it_was_trained_on_with_half_of_the_tokens(robot: MetaWorldRobot) -> None:
    episode = run_episode(robot, runtime("tri_stage", 0.5), seed=1)
    assert episode.success
    calls = len(episode.policy_ms)
    assert calls == len(episode.select_ms) > 1
    assert episode.keep_ratio == pytest.approx((1 + (calls - 1) * 104 / 208) / calls), "the first call is full"
    assert all(0 < select < policy for select, policy in zip(episode.select_ms, episode.policy_ms))


def test_same_seed_gives_the_same_episode(robot: MetaWorldRobot) -> None:
    a, b = (run_episode(robot, runtime("tri_stage", 0.25), seed=2) for _ in range(2))
    timeless: dict[str, Any] = {"policy_ms": (), "select_ms": ()}
    assert dataclasses.replace(a, **timeless) == dataclasses.replace(b, **timeless)
    assert len(a.policy_ms) == len(b.policy_ms)


def test_keep_ratio_one_drives_exactly_as_no_pruning(robot: MetaWorldRobot) -> None:
    states = []
    for method in ("none", "tri_stage", "random"):
        robot.reset(3)
        control = DelayedControl(runtime(method, 1.0), robot)
        for _ in range(24):
            control.step()
        states.append(robot._state.copy())
    assert (states[0] == states[1]).all() and (states[0] == states[2]).all()


def test_late_chunk_joins_at_the_action_that_is_due(robot: MetaWorldRobot) -> None:
    """A policy that answers with the number of the step each action is meant for, in thousandths of m/s."""

    class Clock:
        chunk_size, action_dim, step_s, device_name = 16, 4, 0.0125, "none"

    class Telling:
        policy = Clock()
        sent: list[np.ndarray] = []

        def reset(self) -> None:
            pass

        def infer(self, observation):
            first = round(observation.stamp_ns / 12.5e6)
            actions = np.zeros((16, 4), np.float32)
            actions[:, 0] = (first + np.arange(16)) / 1000

            class Answer:
                chunk = ActionChunk(observation.stamp_ns, 0.0125, actions)
                policy_ms = 0.0
                stage_ms = {"select": 0.0}

                class selection:
                    spent_ratio = 1.0

            return Answer()

    step = robot.step
    for delay in (0, 3, 7):
        sent: list[float] = []

        def record(command: np.ndarray, sent: list[float] = sent) -> None:
            sent.append(float(command[0]))
            step(command)

        robot.reset(0)
        control = DelayedControl(Telling(), robot, latency=Latency(steps=delay))  # type: ignore[arg-type]
        robot.step = record  # type: ignore[method-assign]
        try:
            for _ in range(20):
                control.step()
        finally:
            del robot.step  # type: ignore[misc]
        # The robot stood still until the first chunk, which begins late; the second one was seen on the way.
        second = max(4, delay) + delay
        expected = [0.0] * delay + [k / 1000 for k in [*range(second - delay), *range(second, 20)]]
        np.testing.assert_allclose(sent, expected, atol=1e-6)


def test_policy_of_another_robot_is_refused(robot: MetaWorldRobot) -> None:
    policy = random_mla_policy(MLA_PRESETS["mla-small"], "cpu", torch.float32)
    with pytest.raises(ValueError, match="gives 7 values per action; the robot of task button-.* takes 4: velocity x"):
        DelayedControl(PolicyRuntime(policy, make_pruner("none", 1.0)), robot)


def test_delay_beyond_the_end_of_a_chunk_is_refused(robot: MetaWorldRobot) -> None:
    with pytest.raises(ValueError, match=r"delay of 16 steps must lie in \[0, 15\]"):
        DelayedControl(runtime("none", 1.0), robot, latency=Latency(steps=16))


def evaluate(file: Path, *arguments: str) -> list[dict[str, Any]]:
    """Rows of ``file`` after ``mvla evaluate`` on one task."""
    words = ["evaluate", "--tasks", "button-press-topdown", "--workers", "1", "--json", str(file), *arguments]
    assert main(words) == 0
    return json.loads(file.read_text())["rows"]


def test_evaluate_writes_rows_that_say_what_was_measured(tmp_path: Path) -> None:
    rows = evaluate(tmp_path / "rows.json", "--episodes", "2", "--keep", "0.5", "--method", "random", "tri_stage")
    assert [r["method"] for r in rows] == ["random", "tri_stage"]
    for row in rows:
        assert row["task"] == "button-press-topdown" and row["keep_asked"] == 0.5 and row["episodes"] == 2
        assert 0.5 < row["keep_measured"] < 0.6, "the full first call is counted"
        assert row["interval"][0] <= row["successes"] / 2 <= row["interval"][1]
        assert row["policy_ms_p50"] > row["selection_ms_p50"] > 0
        assert row["policy"] == {"name": "small", "fingerprint": policy_fingerprint(SMALL)}
        assert row["command"] == (
            "mvla evaluate --policy small --tasks button-press-topdown --episodes 2 --seed 0 "
            "--method random tri_stage --keep 0.5"
        )
        assert {"cpu", "cores", "torch", "python"} <= row["machine"].keys()


def test_evaluate_goes_on_where_it_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of the episodes are there, the last line is torn: the rest is run, and the rows are those of one run."""
    whole = evaluate(tmp_path / "whole.json", "--episodes", "3", "--keep", "0.25", "--method", "none", "tri_stage")
    lines = (tmp_path / "whole.episodes.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 6
    # A mark that only a line that was read again can bring into the result.
    first = json.loads(lines[0]) | {"steps": 7}
    resumed = tmp_path / "resumed.episodes.jsonl"
    resumed.write_text(json.dumps(first) + "\n" + "".join(lines[1:4]) + lines[4][:50])
    arguments = ("--episodes", "3", "--keep", "0.25", "--method", "none", "tri_stage")
    rows = evaluate(tmp_path / "resumed.json", *arguments)
    assert [r["success_by_seed"] for r in rows] == [r["success_by_seed"] for r in whole]
    assert [r["keep_measured"] for r in rows] == [r["keep_measured"] for r in whole]
    written = resumed.read_text().splitlines()
    assert len(written) == 6 and all(json.loads(line)["task"] for line in written)
    assert rows[0]["steps_median"] == sorted(json.loads(line)["steps"] for line in written[:3])[1]
    # A third run runs nothing and changes nothing.
    assert evaluate(tmp_path / "resumed.json", *arguments) == rows
    assert resumed.read_text().splitlines() == written
    # Other settings join the file; a part of what is there takes nothing away.
    more = evaluate(tmp_path / "resumed.json", "--episodes", "2", "--keep", "0.5", "--set", "window=2")
    assert more[:2] == rows and more[2]["pruning"] == {"window": 2} and more[2]["tri_stage"]["window"] == 2
    assert evaluate(tmp_path / "resumed.json", "--episodes", "1", "--method", "none") == more
    assert len(resumed.read_text().splitlines()) == 8, "seed 0 of `none` was known"


def test_evaluate_refuses_a_file_of_another_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    file.write_text('{"rows": [{"task": "push", "policy": "small"}]}')
    assert main(["evaluate", "--json", str(file)]) == 2
    assert "rows.json is not a file of `mvla evaluate --json`, or of an older format" in capsys.readouterr().err


def test_policy_that_changed_under_the_sweep_is_noticed() -> None:
    setting = Setting("push", str(SMALL), "0" * 16, "none", 1.0)
    with pytest.raises(ValueError, match="is another policy than when the sweep began"):
        run_sweep([setting], range(1), 1, lambda *_: None)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--tasks", "juggle"], "unknown task 'juggle'"),
        (["--keep", "0"], "keep ratio 0.0 is outside (0, 1]"),
        (["--keep", "1.5"], "keep ratio 1.5 is outside (0, 1]"),
        (["--method", "magic"], "unknown method 'magic'"),
        (["--policy", "/nowhere"], "no policy '/nowhere'"),
        (["--set", "magic=1"], "unknown pruning parameter 'magic'"),
        (
            ["--set", "window=2", "--method", "none", "random"],
            "--set is for method tri_stage; none and random would not",
        ),
        (["--set", "window=0"], "window must lie in [1, 100], got 0"),
        (["--tasks", "push", "--swap-instructions"], "task 'push' has no partner"),
        (["--episodes", "0"], "must be at least 1"),
    ],
)
def test_wrong_arguments_end_in_one_clear_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *arguments]) == 2
    assert message in capsys.readouterr().err
