"""LIBERO's Panda, against real physics and rendering; its scattered scenes on arrays alone."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ.setdefault("MUJOCO_GL", "osmesa")
pytest.importorskip("libero.libero", reason="the extra libero is not installed: make test ROBOT=panda")

from mvla_pruned_ros.sim.libero.robot import LiberoRobot
from mvla_pruned_ros.types import Observation

SIZE = 96
OBJECT, SPATIAL = "libero_object_scattered/2", "libero_spatial_scattered/6"
OPEN = -1.0
_robots: dict[str, LiberoRobot] = {}


def robot_for(task: str) -> LiberoRobot:
    """One robot per task for the whole run: see the note on OSMesa in sim/camera.py."""
    if task not in _robots:
        _robots[task] = LiberoRobot(task, SIZE)
    return _robots[task]


def command(
    velocity: tuple[float, float, float] = (0, 0, 0), turn: tuple[float, float, float] = (0, 0, 0)
) -> np.ndarray:
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
