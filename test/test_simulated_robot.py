"""The simulated robot, against real Meta-World physics and rendering."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ.setdefault("MUJOCO_GL", "osmesa")
pytest.importorskip("metaworld", reason="the simulator extra is not installed: pip install .[sim]")

from mvla_pruned_ros.sim.metaworld.robot import MAX_SPEED, STEP_S, MetaWorldRobot
from mvla_pruned_ros.sim.metaworld.tasks import TASKS
from mvla_pruned_ros.sim.tasks import task_named
from mvla_pruned_ros.types import Observation

_robots: dict[str, MetaWorldRobot] = {}


def robot_for(task: str) -> MetaWorldRobot:
    """One robot per task for the whole run: see the note on OSMesa in sim/camera.py."""
    if task not in _robots:
        _robots[task] = MetaWorldRobot(task)
    return _robots[task]


def image_of(observation: Observation) -> np.ndarray:
    return observation.views[0].image


def drive_by_expert(robot: MetaWorldRobot, seed: int) -> None:
    robot.reset(seed)
    while robot.steps < robot.task.max_steps and not robot.success:
        robot.step(robot.expert_command())


@pytest.mark.parametrize("task", list(TASKS))
def test_expert_solves_the_task(task: str) -> None:
    drive_by_expert(robot_for(task), 0)
    assert robot_for(task).success


@pytest.mark.parametrize("task", list(TASKS))
def test_same_seed_gives_the_same_scene_whatever_came_before(task: str) -> None:
    robot = robot_for(task)
    robot.reset(3)
    first = robot.observe()
    drive_by_expert(robot, 4)
    robot.reset(3)
    again = robot.observe()
    assert (image_of(first) == image_of(again)).all() and (first.points == again.points).all()
    assert (first.state.position == again.state.position).all() and first.state.gripper == again.state.gripper
    robot.reset(5)
    assert (image_of(robot.observe()) != image_of(again)).any()


def test_only_the_instruction_tells_the_faucets_apart() -> None:
    pictures = []
    for task in ("faucet-open", "faucet-close"):
        robot_for(task).reset(11)
        pictures.append(robot_for(task).observe())
    assert (image_of(pictures[0]) == image_of(pictures[1])).all()
    assert (pictures[0].points == pictures[1].points).all()
    assert (pictures[0].state.position == pictures[1].state.position).all()
    assert pictures[0].instruction != pictures[1].instruction


def test_partner_success_is_that_of_the_other_task() -> None:
    opener, closer = robot_for("faucet-open"), robot_for("faucet-close")
    drive_by_expert(opener, 2)
    assert opener.success and not opener.partner_success()
    opener.reset(2)
    closer.reset(2)
    while closer.steps < 250 and not closer.success:  # the closing expert's commands, in the opening task
        command = closer.expert_command()
        closer.step(command)
        opener.step(command)
    assert closer.success and opener.partner_success() and not opener.success


def test_first_picture_shows_the_goal_marker_where_the_goal_is() -> None:
    robot = robot_for("push")
    drive_by_expert(robot, 0)
    robot.reset(1)
    observation = robot.observe()
    goal = robot._env._target_pos
    (u, v), _ = (x[0] for x in robot.render()[0].view.camera.project(goal[None]))
    r, g, b = observation.views[0].image[int(v), int(u)].astype(int)
    assert g > r + 40 and g > b + 40, f"no green marker at ({u:.0f}, {v:.0f}): {r, g, b}"


def test_picture_of_the_ball_does_not_tell_how_far_it_is() -> None:
    robot = robot_for("touch-ball")
    camera, site = robot.render()[0].view.camera, robot._env.model.site("goal")
    pixels, distances, sizes = [], [], []
    for seed in range(60):
        robot.reset(seed)
        uv, _ = camera.project(np.array(site.pos)[None])
        pixels.append(uv[0])
        distances.append(np.linalg.norm(site.pos - camera.base_from_camera[:3, 3]))
        sizes.append(site.size[0] / distances[-1])
    assert np.ptp(sizes) < 1e-9 and np.ptp(distances) > 0.2
    for axis in range(2):
        assert abs(np.corrcoef(np.array(pixels)[:, axis], distances)[0, 1]) < 0.3


def test_point_cloud_tells_where_the_ball_is() -> None:
    robot = robot_for("touch-ball")
    for seed in range(5):
        robot.reset(seed)
        centre, radius = np.array(robot._env._target_pos), robot._env.model.site("goal").size[0]
        away = np.linalg.norm(robot.observe().points - centre, axis=1)
        assert np.sum(np.abs(away - radius) < 0.003) > 20


def test_command_is_a_velocity_in_metres_per_second() -> None:
    robot = robot_for("push")
    robot.reset(0)
    before = robot.state.position.copy()
    for _ in range(40):
        robot.step(np.array([0.1, 0, 0, 0]))
    moved = robot.state.position - before
    assert moved[0] == pytest.approx(0.1 * 40 * STEP_S, rel=0.25)  # the arm lags behind its target a little
    assert abs(moved[1]) < 0.01 and robot.steps == 40 and robot.time_ns == 500_000_000


def test_faster_than_the_arm_is_clipped() -> None:
    robot = robot_for("push")
    positions = []
    for speed in (MAX_SPEED, 10 * MAX_SPEED):
        robot.reset(0)
        for _ in range(5):
            robot.step(np.array([speed, 0, 0, 0]))
        positions.append(robot.state.position)
    np.testing.assert_array_equal(*positions)


def test_cloud_lies_on_what_the_camera_sees() -> None:
    robot = robot_for("button-press-topdown")
    robot.reset(0)
    observation = robot.observe()
    uv, depth = robot.render()[0].view.camera.project(observation.points)
    assert (depth > 0).all()
    # One point per pixel with a reading, at the centre of its pixel.
    np.testing.assert_allclose(uv % 1, 0.5, atol=1e-2)
    table = observation.points[np.abs(observation.points[:, 2]) < 0.002]
    assert len(table) > 1000, "the table's surface is at z = 0"


def test_unknown_task_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match="unknown task 'juggle': choose from button-press-topdown, push"):
        task_named("juggle")
