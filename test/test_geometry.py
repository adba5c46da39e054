"""Point clouds against values worked out by hand, plain numpy references, and each other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import open3d as o3d
import pytest

from mvla_pruned_ros.geometry.clouds import (
    DENSE_CELLS,
    _lexicographic,
    crop,
    depth_to_points,
    farthest_point_sample,
    group_neighbours,
    voxel_grid,
)
from mvla_pruned_ros.types import CameraModel


def plain_camera(width: int, height: int) -> CameraModel:
    return CameraModel(width, height, 2.0, 4.0, 1.5, 1.0, np.eye(4))


def test_pixel_back_projects_through_its_centre() -> None:
    depth = np.zeros((2, 3), np.float32)
    depth[0, 2], depth[1, 0] = 2.0, 4.0
    # ((u + 0.5 - cx) / fx * z, (v + 0.5 - cy) / fy * z, z)
    np.testing.assert_allclose(
        depth_to_points(depth, plain_camera(3, 2)), [[1.0, -0.25, 2.0], [-2.0, 0.5, 4.0]], rtol=1e-6
    )


def test_back_projection_inverts_projection_row_by_row(camera: Callable[..., CameraModel]) -> None:
    model = camera(40, 30)
    depth = np.random.default_rng(0).uniform(0.3, 3.0, (30, 40)).astype(np.float32)
    points = depth_to_points(depth, model)
    uv, z = model.project(points)
    v, u = np.mgrid[:30, :40]
    np.testing.assert_allclose(uv, np.stack([u.ravel() + 0.5, v.ravel() + 0.5], 1), atol=1e-4)
    np.testing.assert_allclose(z, depth.ravel(), rtol=1e-5)
    assert points.dtype == np.float32


def test_back_projection_is_that_of_open3d(camera: Callable[..., CameraModel]) -> None:
    rng, model = np.random.default_rng(0), camera(64, 48)
    depth = np.where(rng.random((48, 64)) < 0.3, 0, rng.uniform(0.3, 3.0, (48, 64))).astype(np.float32)
    intrinsics = o3d.camera.PinholeCameraIntrinsic(64, 48, model.fx, model.fy, model.cx - 0.5, model.cy - 0.5)
    expected = o3d.geometry.PointCloud.create_from_depth_image(
        o3d.geometry.Image(depth), intrinsics, np.linalg.inv(model.base_from_camera), depth_scale=1.0, depth_trunc=5.0
    )
    np.testing.assert_allclose(depth_to_points(depth, model), np.asarray(expected.points), atol=1e-6)


@pytest.mark.parametrize("invalid", [0.0, np.nan, np.inf, -np.inf, -1.0])
def test_pixels_without_a_reading_give_no_point(invalid: float) -> None:
    depth = np.full((4, 5), 1.0, np.float32)
    depth[1, 2] = depth[3, 4] = invalid
    points = depth_to_points(depth, plain_camera(5, 4))
    assert points.shape == (18, 3) and np.isfinite(points).all()
    np.testing.assert_array_equal(points[:, 2], 1.0)


@pytest.mark.parametrize("invalid", [0.0, np.nan, np.inf])
def test_depth_image_without_any_reading_gives_an_empty_cloud(invalid: float) -> None:
    points = depth_to_points(np.full((4, 5), invalid, np.float32), plain_camera(5, 4))
    assert points.shape == (0, 3) and points.dtype == np.float32


def test_far_readings_are_not_cut_off() -> None:
    depth = np.array([[0.5, 1000.0]], np.float32)
    np.testing.assert_allclose(depth_to_points(depth, plain_camera(2, 1))[:, 2], [0.5, 1000.0])


def test_depth_of_another_size_than_the_camera_is_refused_with_both() -> None:
    with pytest.raises(ValueError, match="depth image is 4 x 3, camera model 3 x 4"):
        depth_to_points(np.ones((3, 4), np.float32), plain_camera(3, 4))


def test_depth_view_with_strides_gives_the_same_points_as_a_copy() -> None:
    wide = np.random.default_rng(0).uniform(0.5, 1.5, (8, 10)).astype(np.float32)
    view = wide[::-1, ::2]
    np.testing.assert_array_equal(
        depth_to_points(view, plain_camera(5, 8)), depth_to_points(view.copy(), plain_camera(5, 8))
    )


def test_crop_keeps_order_and_what_lies_on_the_border() -> None:
    points = np.array([[0.5, 0, 0], [1, 1, 1], [1.001, 0, 0], [-1, -1, -1], [0, 0, -1.5]], np.float32)
    np.testing.assert_array_equal(crop(points, (-1, -1, -1), (1, 1, 1)), points[[0, 1, 3]])


def test_crop_drops_points_that_are_not_finite() -> None:
    points = np.array([[np.nan, 0, 0], [0, np.inf, 0], [0, 0, -np.inf], [0.1, 0.2, 0.3]], np.float32)
    np.testing.assert_array_equal(crop(points, (-9, -9, -9), (9, 9, 9)), points[3:])


def test_crop_of_an_empty_cloud_is_empty() -> None:
    assert crop(np.zeros((0, 3), np.float32), (0, 0, 0), (1, 1, 1)).shape == (0, 3)


def test_voxel_holds_the_mean_of_its_points() -> None:
    points = np.array([[0.00, 0, 0], [0.02, 0, 0], [0.01, 0.03, 0], [0.5, 0.5, 0.5]], np.float32)
    np.testing.assert_allclose(voxel_grid(points, 0.1), [[0.01, 0.01, 0], [0.5, 0.5, 0.5]], atol=1e-7)


def test_voxel_grid_thins_to_at_most_one_point_per_voxel_and_stays_near() -> None:
    points = np.random.default_rng(0).uniform(0, 0.1, (5000, 3)).astype(np.float32)
    thin = voxel_grid(points, 0.01)
    assert 1000 <= len(thin) <= 11**3
    nearest = np.linalg.norm(points[:, None] - thin, axis=2).min(1)
    assert nearest.max() < 0.01 * np.sqrt(3)


@pytest.mark.parametrize(("spread", "dense"), [(0.2, True), (30.0, False)])
def test_voxel_grid_is_that_of_open3d_bit_for_bit(spread: float, dense: bool) -> None:
    points = np.random.default_rng(0).normal(0, spread, (20000, 3)).astype(np.float32)
    points[:5000] *= 0.01
    assert (np.prod(np.ptp(points, 0) / 0.02, dtype=np.float64) < DENSE_CELLS) == dense
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points.astype(np.float64)))
    expected = np.asarray(cloud.voxel_down_sample(0.02).points).astype(np.float32)
    np.testing.assert_array_equal(voxel_grid(points, 0.02), expected[np.lexsort(expected.T)])


def test_voxel_grid_does_not_depend_on_the_order_of_points() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 0.1, (500, 3)).astype(np.float32)
    np.testing.assert_allclose(voxel_grid(points, 0.02), voxel_grid(rng.permutation(points), 0.02), atol=1e-6)


def test_voxel_size_zero_leaves_the_cloud_as_it_is() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (7, 3)).astype(np.float32)
    np.testing.assert_array_equal(voxel_grid(points, 0.0), points)


def test_voxel_grid_of_an_empty_cloud_is_empty() -> None:
    assert voxel_grid(np.zeros((0, 3), np.float32), 0.01).shape == (0, 3)


def test_farthest_points_of_a_line() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [10, 0, 0]], np.float32)
    # Farthest from the centroid 3.25 is 10, then the other end, then what is farthest from both.
    assert farthest_point_sample(points, 3).tolist() == [3, 0, 2]


def test_farthest_point_sample_agrees_with_the_definition() -> None:
    points = np.random.default_rng(0).normal(size=(300, 3))
    picked = [int(np.linalg.norm(points - points.mean(0), axis=1).argmax())]
    while len(picked) < 40:
        picked.append(int(np.linalg.norm(points[:, None] - points[picked], axis=2).min(1).argmax()))
    assert farthest_point_sample(points, 40).tolist() == picked


def test_sampling_more_points_than_there_are_repeats_them() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0]], np.float32)
    assert farthest_point_sample(points, 5).tolist() == [0, 1, 0, 1, 0]
    assert farthest_point_sample(points[:1], 3).tolist() == [0, 0, 0]


def test_neighbours_are_relative_to_the_centre_and_nearest_first() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 3, 0], [0, 0, 9]], np.float32)
    groups = group_neighbours(points, np.array([[0, 0, 0], [0, 0, 8]], np.float32), 3)
    np.testing.assert_allclose(groups[0], [[0, 0, 0], [1, 0, 0], [0, 3, 0]])
    np.testing.assert_allclose(groups[1], [[0, 0, 1], [0, 0, -8], [1, 0, -8]])


@pytest.mark.parametrize("available", [1, 2])
def test_neighbours_repeat_when_there_are_too_few(available: int) -> None:
    points = np.array([[0, 0, 0], [1, 0, 0]], np.float32)[:available]
    groups = group_neighbours(points, np.zeros((1, 3), np.float32), 4)
    assert groups.shape == (1, 4, 3)
    assert groups[0, :, 0].tolist() == [[0, 0, 0, 0], [0, 1, 0, 1]][available - 1]


@pytest.mark.parametrize("decimals", [7, 2, 1])
def test_order_of_points_is_lexicographic_whatever_agrees(decimals: int) -> None:
    """With few decimals many points agree in z, in z and y, or altogether; zeros of either sign are equal."""
    points = np.random.default_rng(decimals).normal(0, 0.3, (2000, 3)).round(decimals).astype(np.float32)
    points[::5] *= -0.0
    np.testing.assert_array_equal(points[_lexicographic(points)], points[np.lexsort(points.T)])


def test_open3d_is_loaded_only_for_grids_that_are_too_large_to_count() -> None:
    """By the policy of a very large workspace already when it is warmed up, by the shipped ones never."""
    script = (
        "import sys; from dataclasses import replace; from mvla_pruned_ros.policy.mvla.config import MVLAConfig\n"
        "from mvla_pruned_ros.policy.example import example_observation\n"
        "from mvla_pruned_ros.policy.mvla.preprocess import prepare\n"
        "shipped = MVLAConfig(); large = replace(shipped, workspace_upper=(4.0, 4.0, 3.0))\n"
        "for config in (shipped, large):\n"
        "    prepare(example_observation(config, 'go'), config)\n"
        "    print('open3d' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
