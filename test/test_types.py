"""Camera model, observation and action chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import make_observation

from mvla_pruned_ros.types import ActionChunk, CameraModel, Observation


def test_projection_of_known_points() -> None:
    pose = np.eye(4)
    pose[:3, 3] = [1.0, 2.0, 3.0]
    camera = CameraModel(100, 80, 50.0, 40.0, 50.0, 40.0, pose)
    uv, depth = camera.project(np.array([[1.0, 2.0, 5.0], [1.4, 1.5, 5.0]]))
    np.testing.assert_allclose(uv, [[50.0, 40.0], [60.0, 30.0]])
    np.testing.assert_allclose(depth, [2.0, 2.0])


def test_projection_uses_the_rotation_from_camera_to_base() -> None:
    # The camera looks along the base's x axis: its right is -y, its down is -z.
    pose = np.eye(4)
    pose[:3, :3] = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    camera = CameraModel(100, 100, 10.0, 10.0, 50.0, 50.0, pose)
    uv, depth = camera.project(np.array([[2.0, 1.0, 0.5]]))
    np.testing.assert_allclose(uv, [[45.0, 47.5]])
    np.testing.assert_allclose(depth, [2.0])


def test_points_behind_the_camera_have_no_positive_depth_and_finite_pixels() -> None:
    camera = CameraModel(100, 100, 10.0, 10.0, 50.0, 50.0, np.eye(4))
    uv, depth = camera.project(np.array([[0.0, 0.0, -1.0], [1.0, 1.0, 0.0]]))
    assert (depth <= 0).all() and np.isfinite(uv).all()


def test_resized_camera_projects_to_scaled_pixels(camera: Callable[..., CameraModel]) -> None:
    points = np.random.default_rng(0).uniform([-0.3, 0.4, 0.0], [0.3, 0.9, 0.3], (50, 3))
    full, half = camera(640, 480), camera(640, 480).resized(320, 120)
    np.testing.assert_allclose(half.project(points)[0], full.project(points)[0] * [0.5, 0.25])
    assert (half.width, half.height) == (320, 120)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"width": 0}, "0 x 48"),
        ({"height": -1}, "64 x -1"),
        ({"fx": float("nan")}, "fx=nan"),
        ({"fy": -3.0}, "fy=-3.0"),
        ({"cx": float("inf")}, "focal"),
        ({"base_from_camera": np.eye(3)}, r"4 x 4, got \(3, 3\)"),
    ],
)
def test_impossible_camera_is_refused_with_the_value(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {"width": 64, "height": 48, "fx": 50.0, "fy": 50.0, "cx": 32.0, "cy": 24.0}
    fields["base_from_camera"] = np.eye(4)
    CameraModel(**fields)
    with pytest.raises(ValueError, match=message):
        CameraModel(**(fields | change))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"image": np.zeros((192, 192), np.uint8)}, r"image must be .* got \(192, 192\)"),
        ({"image": np.zeros((192, 192, 4), np.uint8)}, r"got \(192, 192, 4\)"),
        ({"image": np.zeros((192, 192, 3), np.float32)}, "float32"),
        ({"image": np.zeros((96, 192, 3), np.uint8)}, "192 x 192 pixels, the image has 192 x 96"),
        ({"views": ()}, r"one or more views of different names, got \[\]"),
        ({"views": make_observation().views * 2}, r"different names, got \['image', 'image'\]"),
        ({"points": np.zeros((5, 2), np.float32)}, r"points must be \(N, 3\), got \(5, 2\)"),
        ({"points": np.zeros(3, np.float32)}, r"got \(3,\)"),
    ],
)
def test_malformed_observation_is_refused_with_what_was_given(
    observation: Callable[..., Observation], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        observation(**change)


def test_action_is_due_from_its_own_time_until_the_next() -> None:
    chunk = ActionChunk(1000, 0.0125, np.zeros((16, 4), np.float32))
    step = 12_500_000
    assert [chunk.index_at(1000 + t) for t in (-1, 0, step - 1, step, 15 * step, 16 * step)] == [-1, 0, 0, 1, 15, 16]


@pytest.mark.parametrize("step_s", [0.0125, 1 / 30, 0.1])
def test_action_index_does_not_drift_over_a_long_time(step_s: float) -> None:
    chunk = ActionChunk(1_790_000_000_000_000_000, step_s, np.zeros((16, 4), np.float32))
    steps = np.arange(100_000)
    due = [chunk.index_at(chunk.stamp_ns + k * round(step_s * 1e9)) for k in steps.tolist()]
    assert due == steps.tolist()
