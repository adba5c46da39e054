"""LIBERO's Panda, against real physics and rendering, and what is read from its bags."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

os.environ.setdefault("MUJOCO_GL", "osmesa")
pytest.importorskip("libero.libero", reason="the extra libero is not installed: make test ROBOT=panda")

from mvla_pruned_ros.bags.observations import BagFrame, BagFrames
from mvla_pruned_ros.bags.reader import Bag
from mvla_pruned_ros.cli.bag_options import add_bag_arguments, bag_setup
from mvla_pruned_ros.geometry.clouds import depth_to_points
from mvla_pruned_ros.policy.mvla.presets import preset
from mvla_pruned_ros.sim.libero.robot import LiberoRobot
from mvla_pruned_ros.sim.libero.tasks import LIBERO_TASKS
from mvla_pruned_ros.sim.wiring import common_wiring, wiring_of
from mvla_pruned_ros.training import expert
from mvla_pruned_ros.training.expert import expert_steps, record_bag, record_beginnings
from mvla_pruned_ros.types import Observation

SEED = 3
OBJECT, SPATIAL = "libero_object_scattered/2", "libero_spatial_scattered/2"
OPEN, CLOSE = -1.0, 1.0
STALE_M = 1.5e-3  # the state is that of the physics' last step, 2 ms before the picture
_robots: dict[str, LiberoRobot] = {}


def robot_for(task: str) -> LiberoRobot:
    """One robot per task for the whole run; ``robot_of`` keeps the last one only."""
    if task not in _robots:
        _robots[task] = LiberoRobot(task, 96)
    return _robots[task]


def command(velocity: tuple[float, float, float], turn: tuple[float, float, float]) -> np.ndarray:
    return np.array([*velocity, *turn, OPEN])


def physics(robot: LiberoRobot) -> np.ndarray:
    return np.concatenate([robot._data.qpos, robot._data.qvel])


def assert_same(first: Observation, second: Observation) -> None:
    for a, b in zip(first.views, second.views):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.camera.base_from_camera, b.camera.base_from_camera)
    np.testing.assert_array_equal(first.points, second.points)
    for name in ("position", "orientation", "joints", "gripper"):
        np.testing.assert_array_equal(getattr(first.state, name), getattr(second.state, name))


def drive(robot: LiberoRobot, steps: int) -> np.ndarray:
    """(steps, 2 * joints) states of the physics under the expert."""
    states = []
    for _ in range(steps):
        robot.step(robot.expert_command())
        states.append(physics(robot))
    return np.array(states)


@pytest.mark.parametrize("task", [OBJECT, SPATIAL])
def test_same_seed_gives_the_same_episode_whatever_came_before(task: str) -> None:
    robot, other = robot_for(task), robot_for(SPATIAL if task == OBJECT else OBJECT)
    robot.reset(SEED)
    start, way, end = robot.observe(), drive(robot, 20), robot.observe()
    robot.reset(SEED + 1)
    assert np.abs(physics(robot) - way[0]).max() > 0.01
    for _ in range(12):
        robot.step(np.array([0.3, 0, 0.3, 0, 0, 1.0, CLOSE]))
    other.reset(SEED)
    drive(other, 3)
    robot.reset(SEED)
    assert_same(start, robot.observe())
    np.testing.assert_array_equal(way, drive(robot, 20))
    assert_same(end, robot.observe())


@pytest.mark.parametrize("task", [OBJECT, SPATIAL])
def test_points_of_a_thing_lie_on_it_in_both_views(task: str) -> None:
    robot = robot_for(task)
    robot.reset(SEED)
    drive(robot, 12)  # over the thing, so that the wrist sees it
    thing, joint = robot.goal[0], robot._env.env.objects_dict[robot.goal[0]].joints[0]
    lower, upper = robot.extent_of(thing) + np.array([[-0.003], [0.003]])
    before = robot.render()
    sim = robot._env.env.sim
    sim.data.set_joint_qpos(joint, np.array([0, 0, -5.0, 1, 0, 0, 0]))
    sim.forward()
    for shot, without in zip(before, robot.render()):
        points = depth_to_points(shot.depth, shot.view.camera)
        on_it = ((points > lower) & (points < upper)).all(1) & (points[:, 2] > lower[2] + 0.01)
        uv = shot.view.camera.project(points[on_it])[0].astype(int)
        changed = np.abs(shot.depth - without.depth)[uv[:, 1], uv[:, 0]] > 0.002
        assert len(uv) > 15 and changed.mean() > 0.95, f"{shot.view.name}: {changed.sum()} of {len(uv)} points"


def test_state_is_that_of_the_model() -> None:
    robot = robot_for(SPATIAL)
    robot.reset(SEED)
    model, data = robot._model, robot._data
    base = data.body("robot0_base")
    turn = base.xmat.reshape(3, 3).T
    np.testing.assert_allclose(
        robot.state.position, turn @ (data.site("gripper0_grip_site").xpos - base.xpos), atol=1e-3
    )
    hand = Rotation.from_matrix(turn @ data.body("robot0_right_hand").xmat.reshape(3, 3))
    assert (hand.inv() * Rotation.from_quat(robot.state.orientation)).magnitude() < 1e-3
    joints = [data.qpos[model.joint(f"robot0_joint{i}").qposadr[0]] for i in range(1, 8)]
    np.testing.assert_allclose(robot.state.joints, joints, atol=1e-3)
    assert robot.state.gripper > 0.8, "the episode begins with an open hand"
    for _ in range(15):
        robot.step(np.array([0, 0, 0.05, 0, 0, 0, CLOSE]))
    assert robot.state.gripper < 0.1


@pytest.mark.parametrize("task", [OBJECT, SPATIAL])
def test_cameras_are_where_the_wiring_says_and_the_wrist_camera_rides_on_the_hand(task: str) -> None:
    robot, wiring, places = robot_for(task), wiring_of(task), []
    robot.reset(SEED)
    assert tuple(camera.view for camera in wiring.cameras) == robot.views
    for _ in range(2):
        outside, wrist = (shot.view.camera.base_from_camera for shot in robot.render())
        np.testing.assert_allclose(outside, wiring.cameras[0].pose, atol=1e-5)
        hand = np.eye(4)
        hand[:3, :3], hand[:3, 3] = Rotation.from_quat(robot.state.orientation).as_matrix(), robot.state.position
        np.testing.assert_allclose(wrist, hand @ wiring.cameras[1].pose, atol=1.5e-3)
        places.append(wrist)
        for _ in range(15):
            robot.step(command((0.125, 0.075, 0.025), (0.125, 0, 0.5)))
    assert np.linalg.norm(places[1][:3, 3] - places[0][:3, 3]) > 0.05
    assert np.abs(places[1][:3, :3] - places[0][:3, :3]).max() > 0.1


@pytest.mark.parametrize("axis", range(6))
def test_command_moves_along_and_turns_about_the_axes_of_the_base(axis: int) -> None:
    robot, speed = robot_for(OBJECT), 0.025 if axis < 3 else 0.1
    robot.reset(SEED)
    sent = np.zeros(7)
    sent[axis], sent[-1] = speed, OPEN
    for _ in range(10):
        robot.step(sent)
    before = robot.state
    for _ in range(20):
        robot.step(sent)
    turned = Rotation.from_quat(robot.state.orientation) * Rotation.from_quat(before.orientation).inv()
    moved = np.concatenate([robot.state.position - before.position, turned.as_rotvec()])
    assert moved[axis] == pytest.approx(speed, rel=0.1)  # in one second
    moved[axis] = 0
    assert np.abs(moved).max() < 0.006


def test_faster_than_the_arm_is_clipped() -> None:
    robot, states = robot_for(OBJECT), []
    for factor in (1, 10):
        robot.reset(SEED)
        for _ in range(5):
            robot.step(command((factor * robot.max_speed, 0, 0), (0, 0, factor * robot.max_turn)))
        states.append(physics(robot))
    np.testing.assert_array_equal(*states)


@pytest.mark.parametrize("task, seed", [(SPATIAL, SEED), ("libero_spatial_scattered/9", 4)])
def test_expert_solves_a_scattered_task(task: str, seed: int) -> None:
    """Also where its arm is nearly straight. The other suite's is solved for a bag, below."""
    robot = robot_for(task)
    robot.reset(seed)
    while robot.steps < robot.task.max_steps and not robot.success:
        robot.step(robot.expert_command())
    assert robot.success


def test_beginnings_show_one_scene_with_each_thing_asked_for() -> None:
    """Same picture, other words, another way: what the hand goes towards is what the words name."""
    robot, config = robot_for(OBJECT), preset("panda")
    data = record_beginnings(robot, SEED, config, 2)
    robot.reset(SEED)
    assert len(data) == 2 * len(robot.errands) > 4 and len(set(data.instruction)) == len(robot.errands)
    first = np.flatnonzero(data.frame == 0)
    hand = robot.state.position
    for i, (instruction, thing) in zip(first, robot.errands.items()):
        assert data.instruction[i] == data.instruction[i + 1] == instruction and data.frame[i + 1] == 1
        np.testing.assert_array_equal(data.image[i], data.image[first[0]])
        towards = (robot.place_of(thing) - hand)[:2]
        way = data.actions[i, :, :2].sum(0) * robot.step_s
        assert np.linalg.norm(way - towards) < 0.35 * np.linalg.norm(towards) + 0.02, thing
    robot.send_for(list(robot.errands.values())[0])
    robot.reset(SEED)
    assert robot.goal[0] == "salad_dressing_1"  # a reset ends the errand


def test_scenes_without_errands_say_so() -> None:
    with pytest.raises(ValueError, match="libero_spatial_scattered/2.* nothing else can be asked for"):
        record_beginnings(robot_for(SPATIAL), SEED, preset("panda"), 2)


def test_seeds_of_the_benchmark_are_its_initial_states(monkeypatch: pytest.MonkeyPatch) -> None:
    robot = robot_for(OBJECT)
    monkeypatch.setattr(robot, "task", LIBERO_TASKS["libero_object/2"])  # of the same model
    starts = []
    for seed in (1, 51, 2):
        robot.reset(seed)
        starts.append(physics(robot))
    np.testing.assert_allclose(starts[0], starts[1], atol=1e-9)
    assert np.abs(starts[0] - starts[2]).max() > 1e-4


def test_bag_of_the_expert_gives_what_the_robot_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expert, "robot_of", robot_for)
    record_bag(tmp_path / "bag", [(OBJECT, SEED)], {}, noisy=False)
    parser = argparse.ArgumentParser()
    add_bag_arguments(parser)
    args = parser.parse_args([])
    args.bag = tmp_path / "bag"
    with Bag(args.bag) as bag:
        frames = [one for one in BagFrames(bag, bag_setup(args)) if isinstance(one, BagFrame)]
    robot = robot_for(OBJECT)
    looks = (robot.observe() for seen, _ in expert_steps(robot, SEED, 0, noisy=False) if seen)
    for got, truth in zip([frame.observation for frame in frames[:8]], looks):
        assert got.instruction == truth.instruction and [view.name for view in got.views] == list(robot.views)
        for a, b in zip(got.views, truth.views):
            np.testing.assert_array_equal(a.image, b.image)
            np.testing.assert_allclose(a.camera.base_from_camera, b.camera.base_from_camera, atol=2 * STALE_M)
        assert got.points.shape == truth.points.shape
        assert np.quantile(np.linalg.norm(got.points - truth.points, axis=1), 0.99) < 2 * STALE_M
        np.testing.assert_allclose(got.state.position, truth.state.position, atol=1e-6)
        turned = Rotation.from_quat(got.state.orientation).inv() * Rotation.from_quat(truth.state.orientation)
        assert turned.magnitude() < 1e-6
        np.testing.assert_allclose(got.state.joints, truth.state.joints, atol=1e-6)
        assert got.state.gripper == pytest.approx(truth.state.gripper)


def test_a_bag_holds_one_place_of_the_cameras() -> None:
    with pytest.raises(ValueError, match="the cameras of libero_spatial/1 and libero_object/1 stand at other places"):
        common_wiring(["libero_spatial/1", "libero_object/1"])


def test_reset_is_as_good_as_building_the_scene_anew() -> None:
    robot = robot_for(OBJECT)
    robot.reset(SEED + 1)
    drive(robot, 5)
    robot.reset(SEED)
    start, way = physics(robot), drive(robot, 12)
    del _robots[OBJECT]  # its cameras look at the scene that is thrown away now
    robot._env.env.hard_reset = True
    robot.reset(SEED)
    np.testing.assert_allclose(start, physics(robot), atol=1e-9)
    # Rounding differs in the fourteenth digit; after a second of contacts it would be seen.
    np.testing.assert_allclose(way, drive(robot, 12), atol=1e-6)
