"""From observation to policy input: crop, resample, group, and where each token lies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mvla_pruned_ros.geometry.clouds import crop, voxel_grid
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
from mvla_pruned_ros.policy.mvla.preprocess import (
    NotReadyError,
    PointGroups,
    group_points,
    prepare,
    square_image,
    token_layout,
)
from mvla_pruned_ros.types import ArmState, CameraModel, Observation

MakeObservation = Callable[..., Observation]
MakeCamera = Callable[..., CameraModel]
CONFIG = MVLAConfig()


def test_shapes_and_types_are_those_documented(observation: MakeObservation) -> None:
    seen = prepare(observation(), CONFIG)
    assert (seen.image.shape, seen.image.dtype) == ((1, 192, 192, 3), np.uint8)
    assert (seen.centres.shape, seen.centres.dtype) == ((64, 3), np.float32)
    assert (seen.groups.shape, seen.groups.dtype) == ((64, 24, 3), np.float32)
    assert (seen.layout.num_image, seen.layout.num_points) == (144, 64)
    np.testing.assert_array_equal(seen.layout.end_effector, observation().state.position)


@pytest.mark.parametrize("width, height", [(192, 192), (640, 480), (480, 640), (96, 96), (1000, 300)])
def test_token_of_a_point_is_the_patch_that_shows_it(
    observation: MakeObservation, camera: MakeCamera, width: int, height: int
) -> None:
    """What is painted where a point projects in the camera's image must come out in the patch of that point."""
    model = camera(width, height)
    target = np.array([0.1, 0.65, 0.03])
    (u, v), _ = (x[0] for x in model.project(target[None]))
    half = min(width, height) / 60
    rows, columns = np.mgrid[:height, :width] + 0.5
    image = np.zeros((height, width, 3), np.uint8)
    image[(abs(columns - u) < half) & (abs(rows - v) < half)] = 255
    seen = prepare(observation(width=width, height=height, image=image), CONFIG)
    grid, size = CONFIG.grid, CONFIG.patch_size
    brightness = seen.image[0].reshape(grid, size, grid, size, 3).mean((1, 3, 4)).ravel()
    assert brightness.max() > 10
    square_camera = square_image(image, model, CONFIG.image_size)[1]
    layout = token_layout(target[None], target[None], {"image": square_camera}, CONFIG, np.zeros(3))
    assert layout.point_patches[0, 0] == brightness.argmax()


def test_patch_position_is_the_mean_of_the_points_it_shows(camera: MakeCamera) -> None:
    model = camera(192, 192)
    points = np.random.default_rng(0).uniform([-0.3, 0.4, 0.0], [0.3, 0.9, 0.1], (800, 3)).astype(np.float32)
    layout = token_layout(points, points[:4], {"image": model}, CONFIG, np.zeros(3))
    uv = model.project(points)[0]
    patch = (uv[:, 1] // 16).astype(int) * 12 + (uv[:, 0] // 16).astype(int)
    assert (uv > 0).all() and (uv < 192).all(), "every point of this test must lie in the image"
    for index in range(144):
        shown = points[patch == index]
        if len(shown):
            np.testing.assert_allclose(layout.image_positions[index], shown.mean(0), atol=1e-6)
        else:
            assert np.isnan(layout.image_positions[index]).all()
    np.testing.assert_array_equal(layout.point_patches[0], patch[:4])


def test_group_outside_the_image_or_behind_the_camera_has_no_patch(camera: MakeCamera) -> None:
    model = camera(192, 192)
    behind = model.base_from_camera @ [0.0, 0.0, -0.5, 1.0]
    beside = model.base_from_camera @ [5.0, 0.0, 1.0, 1.0]
    above = model.base_from_camera @ [0.0, -5.0, 1.0, 1.0]
    ahead = model.base_from_camera @ [0.0, 0.0, 1.0, 1.0]
    centres = np.stack([behind, beside, above, ahead])[:, :3]
    layout = token_layout(centres, centres, {"image": model}, CONFIG, np.zeros(3))
    assert layout.point_patches[0].tolist() == [-1, -1, -1, 6 * 12 + 6]


@pytest.mark.parametrize("width, height", [(640, 480), (480, 640), (481, 640)])
def test_crop_to_the_centre_square_keeps_the_projection_right(camera: MakeCamera, width: int, height: int) -> None:
    model = camera(width, height)
    image = np.zeros((height, width, 3), np.uint8)
    square, square_camera = square_image(image, model, 192)
    edge = min(width, height)
    offset = np.array([(width - edge) // 2, (height - edge) // 2])
    points = np.random.default_rng(0).uniform([-0.2, 0.5, 0.0], [0.2, 0.8, 0.2], (20, 3))
    np.testing.assert_allclose(
        square_camera.project(points)[0], (model.project(points)[0] - offset) * 192 / edge, rtol=1e-9
    )
    assert square.shape == (192, 192, 3) and (square_camera.width, square_camera.height) == (192, 192)


def test_image_of_the_policys_size_is_passed_on_unchanged(observation: MakeObservation) -> None:
    seen = observation()
    np.testing.assert_array_equal(prepare(seen, CONFIG).image[0], seen.views[0].image)


def test_shrinking_averages_the_area(camera: MakeCamera) -> None:
    checkers = np.indices((384, 384)).sum(0) % 2 * 200
    small, _ = square_image(np.repeat(checkers[..., None], 3, 2).astype(np.uint8), camera(384, 384), 192)
    np.testing.assert_array_equal(small, 100)


def test_points_outside_the_workspace_change_nothing(observation: MakeObservation) -> None:
    inside = observation()
    far = np.array([[5, 5, 5], [0, 0.6, -0.2], [np.nan, 0.6, 0.1], [0, np.inf, 0.1]], np.float32)
    a, b = prepare(inside, CONFIG), prepare(observation(points=np.concatenate([far, inside.points])), CONFIG)
    np.testing.assert_array_equal(a.centres, b.centres)
    np.testing.assert_array_equal(a.groups, b.groups)
    np.testing.assert_array_equal(a.layout.image_positions, b.layout.image_positions)


def test_centres_are_points_of_the_thinned_cloud_and_first_in_their_group(observation: MakeObservation) -> None:
    seen = prepare(observation(), CONFIG)
    thin = voxel_grid(
        crop(observation().points, CONFIG.workspace_lower, CONFIG.workspace_upper), CONFIG.voxel_size
    ).tolist()
    assert all(centre in thin for centre in seen.centres.tolist())
    np.testing.assert_array_equal(seen.groups[:, 0], 0)


@pytest.mark.parametrize("count", [0, 1, 31])
def test_too_few_points_are_not_ready_and_the_message_counts_them(observation: MakeObservation, count: int) -> None:
    grid = np.stack(np.meshgrid(np.linspace(-0.2, 0.2, 6), np.linspace(0.5, 0.8, 6), [0.1]), -1).reshape(-1, 3)
    with pytest.raises(NotReadyError, match=rf"^{count} points in the workspace .* need 32"):
        prepare(observation(points=grid[:count].astype(np.float32)), CONFIG)


def test_just_enough_points_are_ready(observation: MakeObservation) -> None:
    grid = np.stack(np.meshgrid(np.linspace(-0.2, 0.2, 6), np.linspace(0.5, 0.8, 6), [0.1]), -1).reshape(-1, 3)
    assert prepare(observation(points=grid[:32].astype(np.float32)), CONFIG).centres.shape == (64, 3)


def test_cloud_without_a_finite_point_is_not_ready(observation: MakeObservation) -> None:
    with pytest.raises(NotReadyError, match="^0 points"):
        prepare(observation(points=np.full((5000, 3), np.nan, np.float32)), CONFIG)


def test_proprio_of_another_length_is_refused_with_both(observation: MakeObservation) -> None:
    with pytest.raises(ValueError, match="proprio has 10 values with 7 joints, the policy takes 9"):
        joints = dataclasses.replace(CONFIG, proprio=("ee_position", "joint_positions"), proprio_dim=9)
        prepare(observation(state=ArmState(np.zeros(3), 1.0, joints=np.zeros(7))), joints)


def test_a_cloud_that_serves_several_images_is_grouped_once_and_the_same(
    observation: MakeObservation, monkeypatch: pytest.MonkeyPatch, tiny_policy_folder: Path
) -> None:
    policy, grouped = MVLAPolicy.load(tiny_policy_folder), []

    def count(points: np.ndarray, config: MVLAConfig) -> PointGroups:
        grouped.append(len(points))
        return group_points(points, config)

    monkeypatch.setattr("mvla_pruned_ros.policy.mvla.policy.group_points", count)
    first = observation(0)
    second = dataclasses.replace(observation(1), points=first.points)  # another image and pose
    other = observation(2)
    for seen, calls in ((first, 1), (second, 1), (other, 2), (first, 3)):
        cached, again = policy.prepare(seen), prepare(seen, policy.config)
        assert len(grouped) == calls
        for name in ("image", "centres", "groups", "proprio"):
            np.testing.assert_array_equal(getattr(cached, name), getattr(again, name))
        for name in ("image_positions", "point_positions", "point_patches", "end_effector"):
            np.testing.assert_array_equal(getattr(cached.layout, name), getattr(again.layout, name))
