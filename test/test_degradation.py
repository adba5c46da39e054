"""Worse sensors: each part does what it says, and nothing else; the same seed gives the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

pytest.importorskip("metaworld", reason="the simulator extra is not installed: pip install .[sim]")

from mvla_pruned_ros.geometry.poses import look_at
from mvla_pruned_ros.sim.camera import Shot
from mvla_pruned_ros.sim.degradation import FARTHEST_M, NEAREST_M, PARTS, REALSENSE, Senses, parts_named
from mvla_pruned_ros.sim.robot import Robot
from mvla_pruned_ros.types import ArmState, CameraModel, View

SIZE = 96
POSE = look_at(np.array([0.5, 0.0, 0.6]), np.zeros(3))


def shot(name: str = "image") -> Shot:
    """A slope from 0.6 m to 1.4 m, a box before it, and nothing in a corner; a dark and a shiny patch."""
    depth = np.tile(np.linspace(0.6, 1.4, SIZE, dtype=np.float32)[:, None], (1, SIZE))
    depth[30:50, 30:60] = 0.5
    depth[:8, :8] = 0
    image = np.random.default_rng(0).integers(60, 200, (SIZE, SIZE, 3)).astype(np.uint8)
    image[60:90, 60:90], image[60:90, 5:25] = 5, 255
    return Shot(View(name, image, CameraModel(SIZE, SIZE, 100, 100, SIZE / 2, SIZE / 2, POSE)), depth)


class Two(Robot):
    """A robot that stands still."""

    step_s, action_dim, max_speed, max_turn = 0.05, 4, 1.0, 0.0
    views, replan_steps, record_every = ("image", "image_1"), 4, 4
    steps, success = 3, False

    def __init__(self) -> None:
        self.task: Any = type("Task", (), {"instruction": "wait"})

    def close(self) -> None: ...
    def reset(self, seed: int) -> None: ...
    def step(self, command: np.ndarray) -> None: ...

    def expert_command(self) -> np.ndarray:
        return np.zeros(4)

    def render(self) -> tuple[Shot, ...]:
        return shot(), shot("image_1")

    @property
    def state(self) -> ArmState:
        return ArmState(np.zeros(3), 1.0)


def after(name: str, seed: int = 1) -> Shot:
    rng = np.random.default_rng(seed)
    return PARTS[name](rng)(shot(), rng)


OF_DEPTH = ("noise", "quantised", "holes", "range", "flying", "halfdepth")


@pytest.mark.parametrize("name", PARTS)
def test_a_part_changes_what_it_is_about_and_nothing_else(name: str) -> None:
    before, now = shot(), after(name)
    same = {
        "image": np.array_equal(now.view.image, before.view.image),
        "depth": np.array_equal(now.depth, before.depth),
        "camera": np.array_equal(now.view.camera.base_from_camera, POSE),
    }
    changed = (
        set()
        if name == "range"
        else {"depth"}
        if name in OF_DEPTH
        else {"camera"}
        if name.startswith("calibration")
        else {"image"}
    )
    changed |= {"depth"} if name == "occluded" else set()
    if name == "black":  # a third of the pictures
        blacks = [not after(name, seed).view.image.any() for seed in range(60)]
        assert 10 < sum(blacks) < 32
        return
    assert {key for key, unchanged in same.items() if not unchanged} == changed
    assert now.depth.dtype == np.float32 and now.view.image.dtype == np.uint8 and np.isfinite(now.depth).all()
    assert (now.depth[:8, :8] == 0).all(), "where nothing is, nothing is seen"


def test_noise_of_depth_grows_with_the_square_of_the_distance() -> None:
    slope = np.tile(np.array([0.5, 1.0, 2.0], np.float32).repeat(40)[:, None], (1, 240))
    view = View("image", np.zeros((120, 240, 3), np.uint8), CameraModel(240, 120, 100, 100, 120, 60, POSE))
    rng = np.random.default_rng(0)
    error = PARTS["noise"](rng)(Shot(view, slope), rng).depth - slope
    near, middle, far = (error[i : i + 40].std() for i in (0, 40, 80))
    assert middle == pytest.approx(0.08 / (425 * 0.05), rel=0.2), "3.8 mm at a metre"
    assert middle / near == pytest.approx(4, rel=0.25) and far / middle == pytest.approx(4, rel=0.25)


def test_depth_has_steps_of_disparity() -> None:
    depth = after("quantised").depth
    steps = 32 * 425 * 0.05 / depth[depth > 0]
    np.testing.assert_allclose(steps, np.round(steps), atol=0.01)


def test_holes_lie_at_edges_and_on_dark_and_shiny_things() -> None:
    lost = (after("holes").depth == 0) & (shot().depth > 0)
    assert lost[60:90, 60:90].mean() > 0.3 and lost[60:90, 5:25].mean() > 0.3
    assert lost[28:32, 35:55].mean() > 0.3, "along the upper edge of the box"
    assert lost[36:44, 38:52].mean() == 0 and lost[60:90, 30:55].mean() < 0.02


def test_flying_pixels_lie_between_what_is_before_and_behind() -> None:
    before, now = shot().depth, after("flying").depth
    moved = np.abs(now - before) > 1e-6
    assert 10 < moved.sum() < 600
    assert (now[moved] >= 0.49).all() and (now[moved] <= 1.41).all()
    assert not moved[60:80, 40:55].any(), "the slope has no edge"


def test_only_what_is_in_range_has_depth() -> None:
    near_and_far = dataclasses.replace(
        shot(), depth=shot().depth * np.where(np.arange(SIZE) < 50, 0.3, 3).astype(np.float32)
    )
    rng = np.random.default_rng(0)
    depth = PARTS["range"](rng)(near_and_far, rng).depth
    seen = depth[depth > 0]
    assert seen.min() >= NEAREST_M and seen.max() <= FARTHEST_M and 0 < len(seen) < (shot().depth > 0).sum()


@pytest.mark.parametrize("name, size", [("calibration1", 1), ("calibration2", 2)])
def test_camera_is_believed_to_stand_so_far_off_all_through_an_episode(name: str, size: float) -> None:
    rng = np.random.default_rng(5)
    part = PARTS[name](rng)
    first, second = (part(shot(), rng).view.camera.base_from_camera for _ in range(2))
    np.testing.assert_array_equal(first, second)
    error = np.linalg.inv(POSE) @ first
    assert np.linalg.norm(error[:3, 3]) == pytest.approx(0.01 * size)
    assert np.degrees(np.arccos((np.trace(error[:3, :3]) - 1) / 2)) == pytest.approx(size)


def test_same_seed_sees_the_same_and_another_one_something_else() -> None:
    def seen(seed: int) -> Any:
        senses = Senses(Two(), "realsense+calibration1+lighting", seed)
        return [senses.observe() for _ in range(2)]

    first, again, other = seen(1), seen(1), seen(2)
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a.points, b.points)
        np.testing.assert_array_equal(a.views[1].image, b.views[1].image)
    assert not np.array_equal(first[0].views[0].image, other[0].views[0].image)
    assert first[0].points.shape != first[1].points.shape or not np.array_equal(first[0].points, first[1].points)
    poses = [view.camera.base_from_camera for view in first[0].views]
    assert not np.allclose(*poses), "each camera is off in its own way"


def test_a_fifth_of_the_frames_is_lost_and_what_comes_is_as_it_was() -> None:
    senses = Senses(Two(), "dropped", 0)
    seen = [senses.observe("go") for _ in range(100)]
    assert 8 < sum(frame is None for frame in seen) < 35
    frame = next(frame for frame in seen if frame is not None)
    assert frame.instruction == "go"
    np.testing.assert_array_equal(frame.points, Two().observe().points)


def test_names() -> None:
    assert parts_named("") == ()
    assert parts_named("realsense+dark") == (*REALSENSE, "dark")
    with pytest.raises(ValueError, match="'fog' must be one of realsense, noise, "):
        parts_named("noise+fog")
    with pytest.raises(ValueError, match="name a part twice; realsense is noise"):
        parts_named("realsense+holes")
