"""A policy of two views and seven values drives LIBERO's Panda as ``mvla evaluate`` does."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("MUJOCO_GL", "osmesa")
pytest.importorskip("libero.libero", reason="the extra libero is not installed: make test ROBOT=panda")

from published import PAGES, published_rows, run

from mvla_pruned_ros.evaluation.success.lateness import Latency
from mvla_pruned_ros.evaluation.success.rollout import DelayedControl, check_fit
from mvla_pruned_ros.evaluation.success.trajectory import mean_jerk, path_length
from mvla_pruned_ros.policy.engine.machine import machine
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
from mvla_pruned_ros.policy.mvla.random_weights import save_random_policy
from mvla_pruned_ros.policy.runtime import PolicyRuntime
from mvla_pruned_ros.pruning.methods import make_pruner
from mvla_pruned_ros.sim.robot import Robot, robot_of

OBJECT = "libero_object_scattered/2"
CONFIG = MVLAConfig(
    views=("image", "image_1"), action_dim=7, step_s=0.05, image_size=96, instruction_length=16, width=32, depth=2,
    heads=2, mlp_width=32, evidence_layers=(1,), workspace_lower=(0.1, -0.5, -0.05), workspace_upper=(1.2, 0.5, 0.8),
)  # fmt: skip
LARGEST = np.array([0.3, 0.3, 0.3, 0.5, 0.5, 0.5, 1.0])


@pytest.fixture(scope="module")
def robot() -> Robot:
    return robot_of(OBJECT, CONFIG.image_size)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory, robot: Robot) -> MVLAPolicy:
    folder = tmp_path_factory.mktemp("panda") / "policy"
    return MVLAPolicy.load(save_random_policy(folder, CONFIG, [robot.task.instruction], LARGEST))


@pytest.mark.parametrize("method, kept", [("tri_stage", 0.35), ("blind", 0.0)])
def test_it_is_driven_with_turns_from_what_both_cameras_see(
    robot: Robot, policy: MVLAPolicy, method: str, kept: float
) -> None:
    ends: list[np.ndarray] = []
    for _ in range(2):
        robot.reset(1)
        control = DelayedControl(PolicyRuntime(policy, make_pruner(method, 0.35)), robot, latency=Latency(ms=120))
        sent = np.array([control.step() for _ in range(12)])
        ends.append(robot.state.position)
        assert control.latency_ms == [120.0, 120.0] and control.replan == 8
        assert control.keep_ratios[1] == pytest.approx(kept, abs=0.01)
        assert sent.shape == (12, 7) and not sent[:3].any() and sent[3:, 3:6].any() and sent[3:, :3].any()
    np.testing.assert_array_equal(*ends)


def test_expert_solves_it_in_figures_that_make_sense(robot: Robot) -> None:
    robot.reset(0)
    positions = [robot.state.position]
    while robot.steps < robot.task.max_steps and not robot.success:
        robot.step(robot.expert_command())
        positions.append(robot.state.position)
    assert robot.success
    jerk = mean_jerk(np.array(positions), robot.step_s)
    assert 0.5 < path_length(np.array(positions)) < 3.0 and jerk is not None and 1.0 < jerk < 200.0


def test_policy_of_metaworlds_arm_is_refused(robot: Robot, tiny_policy_folder: Path) -> None:
    with pytest.raises(ValueError, match="gives 4 values per action; the robot of task libero_object_scattered/2"):
        check_fit(MVLAPolicy.load(tiny_policy_folder), robot)


def test_published_episode_comes_out_again() -> None:
    """The first task that the shipped policy solves unpruned and pruned, of the first seed."""
    methods = (("none", 1.0), ("tri_stage", 0.35))
    published = published_rows((PAGES / "libero.json").read_text(), "panda", methods)
    solved = [task for task, _ in published if all(published[task, m]["success_by_seed"][0] for m, _ in methods)]
    old = published[solved[0], "tri_stage"]
    for new in run("panda", solved[0], [old["first_seed"]], methods):
        if not new["successes"] and old["machine"] != machine():
            pytest.skip(f"published on {old['machine']}: on another CPU or torch a closed loop may end otherwise")
        assert new["successes"] == 1, new["method"]
