"""Several sensors, each in a frame of its own: where their points come to lie, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bags import BASE, CAMERA, numbers_of

from mvla_pruned_ros.bags.writer import bag_encoder
from mvla_pruned_ros.geometry.poses import look_at
from mvla_pruned_ros.messages.decode import ConversionError
from mvla_pruned_ros.observation.builder import observation_of
from mvla_pruned_ros.observation.frames import Frames, TransformError, sensor_poses
from mvla_pruned_ros.observation.streams import cloud_streams
from mvla_pruned_ros.types import CameraModel

DEPTH, LEFT = "camera_depth_optical_frame", "left_optical_frame"
TABLE_M = 0.1  # height of the plane that all see
STAMP = 10**9
COLOUR_POSE = look_at(np.array([0.6, 0.1, 0.6]), np.array([0.0, 0.7, 0.1]))
DEPTH_POSE = look_at(np.array([0.63, 0.12, 0.62]), np.array([0.0, 0.68, 0.1]))  # beside it, and turned a little
LEFT_POSE = look_at(np.array([-0.6, 0.2, 0.5]), np.array([0.0, 0.7, 0.1]))
POSES = {CAMERA: COLOUR_POSE, DEPTH: DEPTH_POSE, LEFT: LEFT_POSE}
make = bag_encoder()


def camera(width: int, height: int, pose: np.ndarray) -> CameraModel:
    return CameraModel(width, height, 0.7 * width, 0.71 * width, 0.51 * width, 0.48 * height, pose)


def depth_of_table(model: CameraModel) -> np.ndarray:
    """(H, W) float32 metres along the optical axis of the plane z = ``TABLE_M``, ray by ray; NaN above the horizon."""
    u, v = np.meshgrid(np.arange(model.width) + 0.5, np.arange(model.height) + 0.5)
    rays = np.stack([(u - model.cx) / model.fx, (v - model.cy) / model.fy, np.ones_like(u)], -1)
    slope = rays @ model.base_from_camera[2, :3]
    with np.errstate(divide="ignore"):
        depth = (TABLE_M - model.base_from_camera[2, 3]) / slope
    return np.where((depth > 0) & (depth < 5), depth, np.nan).astype(np.float32)


def messages(**parts: Any) -> dict[str, Any]:
    """Of a colour camera of 1280 x 720, and what is given."""
    colour = camera(1280, 720, COLOUR_POSE)
    return {
        "image": make.image(np.zeros((720, 1280, 3), np.uint8), "rgb8", STAMP, CAMERA),
        "camera_info": make.camera_info(colour, STAMP, CAMERA),
        "ee_pose": make.pose(np.zeros(3), STAMP, BASE),
        "gripper": make.gripper(1.0, STAMP, BASE),
        **parts,
    }


def depth_parts(name: str, model: CameraModel, frame: str, stamp: int = STAMP) -> dict[str, Any]:
    return {
        name: make.image(depth_of_table(model), "32FC1", stamp, frame),
        f"{name}_camera_info": make.camera_info(model, stamp, frame),
    }


def points_of(parts: dict[str, Any], frames: Frames | None = None) -> np.ndarray:
    return observation_of(STAMP, messages(**parts), "go", frames or Frames(BASE, CAMERA, POSES)).points


@pytest.mark.parametrize("size", [(640, 360), (848, 480), (480, 270)])
def test_depth_of_a_camera_of_its_own_lies_on_the_table(size: tuple[int, int]) -> None:
    model = camera(*size, DEPTH_POSE)
    points = points_of(depth_parts("depth", model, DEPTH))
    assert len(points) == np.isfinite(depth_of_table(model)).sum() > 10_000
    np.testing.assert_allclose(points[:, 2], TABLE_M, atol=1e-5)


def test_registered_depth_of_another_size_lies_on_the_table() -> None:
    model = camera(640, 360, COLOUR_POSE)
    points = points_of({"depth": depth_parts("depth", model, CAMERA)["depth"]})
    np.testing.assert_allclose(points[:, 2], TABLE_M, atol=1e-5)
    with pytest.raises(ConversionError, match="640 x 480, camera info is for 1280 x 720"):
        points_of({"depth": depth_parts("depth", camera(640, 480, COLOUR_POSE), CAMERA)["depth"]})


def test_depth_that_is_not_registered_is_never_taken_for_registered() -> None:
    depth = depth_parts("depth", camera(640, 360, DEPTH_POSE), DEPTH)["depth"]
    with pytest.raises(ConversionError, match=f"frame '{DEPTH}', not '{CAMERA}'.*depth_registered to false"):
        points_of({"depth": depth})


def test_organised_and_unorganised_cloud_of_another_frame_are_the_same_points() -> None:
    model = camera(64, 36, LEFT_POSE)
    depth = depth_of_table(model)
    depth[::5, ::3] = np.nan
    u, v = np.meshgrid(np.arange(64) + 0.5, np.arange(36) + 0.5)
    xyz = np.stack([(u - model.cx) / model.fx * depth, (v - model.cy) / model.fy * depth, depth], -1).reshape(-1, 3)
    cloud = make.cloud("xyz", xyz, STAMP, LEFT)
    flat = points_of({"points": cloud})
    cloud.height, cloud.width, cloud.row_step, cloud.is_dense = 36, 64, 64 * cloud.point_step, False
    np.testing.assert_array_equal(points_of({"points": cloud}), flat)
    assert len(flat) == np.isfinite(depth).sum() < 64 * 36
    np.testing.assert_allclose(flat[:, 2], TABLE_M, atol=1e-5)


def test_point_at_the_sensor_is_no_reading() -> None:
    xyz = np.array([[0, 0, 0], [0, 0, 1], [0.1, 0, 0], [-0.0, 0, -0.0], [0, 0.2, 0]], np.float32)
    points = points_of({"points": make.cloud("xyz", xyz, STAMP, LEFT)})
    np.testing.assert_allclose(points, xyz[[1, 2, 4]] @ LEFT_POSE[:3, :3].T + LEFT_POSE[:3, 3], atol=1e-6)


def test_joints_of_an_arm_are_never_taken_for_the_gripper() -> None:
    joints = make.gripper(0.2, STAMP, BASE)
    joints.name, joints.position = [*(f"joint{i}" for i in range(7)), "left", "right"], np.linspace(0.2, 0.9, 9)
    cloud = make.cloud("xyz", np.ones((4, 3)), STAMP, BASE)
    with pytest.raises(ConversionError, match=r"9 joints \(joint0, joint1, .*left, right\).*the gripper alone"):
        points_of({"points": cloud, "gripper": joints})
    joints.name, joints.position = [], np.array([0.2, 0.3])
    with pytest.raises(ConversionError, match=r"2 joints \(without names\)"):
        points_of({"points": cloud, "gripper": joints})
    joints.name, joints.position = ["finger"], np.array([1.7])
    with pytest.raises(ConversionError, match=r"opening is 1.7: .*scaled to 0"):
        points_of({"points": cloud, "gripper": joints})
    joints.position = np.array([0.25])
    assert len(points_of({"points": cloud, "gripper": joints})) == 4


def test_clouds_of_all_cameras_are_joined_in_the_base_frame() -> None:
    left = camera(320, 180, LEFT_POSE)
    parts = depth_parts("depth", camera(640, 360, DEPTH_POSE), DEPTH)
    alone = points_of(parts)
    parts |= depth_parts("depth_1", left, LEFT)
    xyz = np.random.default_rng(0).uniform(-1, 1, (50, 3)).astype(np.float32)
    parts["points_2"] = make.cloud("xyz", xyz, STAMP, BASE)
    points = points_of(parts)
    np.testing.assert_array_equal(points[: len(alone)], alone)
    np.testing.assert_array_equal(points[-50:], xyz)
    second = points[len(alone) : -50]
    assert len(second) == np.isfinite(depth_of_table(left)).sum()
    np.testing.assert_allclose(second[:, 2], TABLE_M, atol=1e-5)


def test_unknown_frame_is_refused_with_those_that_are_known() -> None:
    parts = depth_parts("depth", camera(64, 36, LEFT_POSE), "lidar")
    with pytest.raises(ConversionError, match=f"depth image is in frame 'lidar'.*'{BASE}', '{CAMERA}', '{DEPTH}'"):
        points_of(parts)
    with pytest.raises(ConversionError, match="frame ''"):  # tf is not asked for a frame without a name
        points_of(
            depth_parts("depth", camera(64, 36, LEFT_POSE), ""), Frames(BASE, CAMERA, POSES, lambda *_: np.eye(4))
        )


def test_each_message_is_placed_by_the_pose_of_its_own_stamp() -> None:
    asked: list[tuple[str, str, int]] = []

    def lookup(target: str, source: str, stamp: int) -> np.ndarray:
        asked.append((target, source, stamp))
        return POSES[source]

    later = STAMP + 7_000_000
    parts = depth_parts("depth", camera(64, 36, DEPTH_POSE), DEPTH, later)
    points = points_of(parts, Frames(BASE, CAMERA, {}, lookup))
    assert asked == [(BASE, CAMERA, STAMP), (BASE, DEPTH, later)]
    np.testing.assert_allclose(points[:, 2], TABLE_M, atol=1e-5)

    def late(target: str, source: str, stamp: int) -> np.ndarray:
        raise TransformError("not yet")

    with pytest.raises(TransformError, match="not yet"):
        points_of(parts, Frames(BASE, CAMERA, {}, late))


def test_poses_of_sensors_from_numbers() -> None:
    poses = sensor_poses([DEPTH, LEFT], [*numbers_of(DEPTH_POSE), *numbers_of(LEFT_POSE)])
    assert list(poses) == [DEPTH, LEFT]
    np.testing.assert_allclose(poses[LEFT], LEFT_POSE, atol=1e-12)
    assert sensor_poses([""], [float("nan")]) == {} == sensor_poses([], [])
    for names, numbers, says in (
        ([DEPTH], [1.0] * 6, "6 numbers, sensor_frames 1"),
        ([""], [0.0] * 7, "7 numbers, sensor_frames 0"),
        ([DEPTH], [float("nan")] * 7, f"{DEPTH}: .*not set"),
        ([DEPTH], [0.0] * 7, f"{DEPTH}: .*length 0.000"),
    ):
        with pytest.raises(ValueError, match=says):
            sensor_poses(names, numbers)


def test_streams_of_clouds() -> None:
    assert cloud_streams("depth", True, [""]) == ["depth"]
    assert cloud_streams("depth", False, ["points_2"]) == ["depth", "depth_camera_info", "points_2"]
    assert cloud_streams("points", False, ["depth_1"]) == ["points", "depth_1", "depth_1_camera_info"]
    for wrong in ("depth", "depth_0", "depth_10", "wrist", "depth_1_camera_info"):
        with pytest.raises(ValueError, match=f"extra_clouds has '{wrong}'"):
            cloud_streams("points", True, [wrong])
    with pytest.raises(ValueError, match="each once"):
        cloud_streams("points", True, ["depth_1", "depth_1"])
