"""A robot for ``mvla preflight``: a table, a hand above it, a camera beside it, all of which can be made wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from bags import numbers_of
from conftest import camera_at

from mvla_pruned_ros.geometry.clouds import depth_to_points
from mvla_pruned_ros.types import ArmState, CameraModel, Observation, View

BASE, CAMERA_FRAME = "base", "camera_color_optical_frame"
SIZE = 128
HAND, HAND_M, TABLE_M = np.array([0.0, 0.60, 0.20]), 0.035, 0.01
INSTRUCTION = "push the puck to the goal"
CAMERA = camera_at(SIZE, SIZE)


def depth_of_scene(camera: CameraModel = CAMERA, hand: np.ndarray = HAND) -> np.ndarray:
    """(H, W) float32 metres: a table with a ball of ``HAND_M`` radius above it, 0 where neither is."""
    rays = np.stack(np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5), -1)
    rays = (rays - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
    rays = np.concatenate([rays, np.ones((*rays.shape[:2], 1))], -1) @ camera.base_from_camera[:3, :3].T
    origin = camera.base_from_camera[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(rays[..., 2] < 0, (TABLE_M - origin[2]) / rays[..., 2], 0.0)
        b, c = rays @ (origin - hand), (origin - hand) @ (origin - hand) - HAND_M**2
        a = (rays**2).sum(-1)
        ball = (-b - np.sqrt(b * b - a * c)) / a
    depth = np.where(ball > 0, ball, depth)  # false for NaN
    return np.where((depth > 0) & (depth < 3.0), depth, 0.0).astype(np.float32)


PIXELS = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
DEPTH = depth_of_scene()


def observation(camera: CameraModel = CAMERA) -> Observation:
    """Of the scene, as it is seen where the camera is believed to stand elsewhere, too."""
    points = depth_to_points(DEPTH, camera)
    state = ArmState(HAND.astype(np.float32), 1.0)
    return Observation(1, (View("image", PIXELS, camera),), points, state, INSTRUCTION)


def moved(by_m: np.ndarray | tuple[float, ...], camera: CameraModel = CAMERA) -> CameraModel:
    """A camera believed to stand beside where it is, by (3,) metres in its own axes."""
    pose = camera.base_from_camera.copy()
    pose[:3, 3] += pose[:3, :3] @ np.asarray(by_m)
    return turned(pose, camera)


def turned(pose: np.ndarray, camera: CameraModel = CAMERA) -> CameraModel:
    """A camera believed to have another (4, 4) pose."""
    return CameraModel(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, pose)


def extrinsics(pose: np.ndarray = CAMERA.base_from_camera) -> dict[str, list[float]]:
    """As parameters of the node."""
    numbers = numbers_of(pose)
    return {"extrinsics.translation": numbers[:3], "extrinsics.rotation_xyzw": numbers[3:]}


def sensor_messages(make: Any, stamp: int) -> dict[str, Any]:
    """What a healthy robot says. Args: make: an ``Encoder``. stamp: nanoseconds."""
    return {
        "camera_info": make.camera_info(CAMERA, stamp, CAMERA_FRAME),
        "ee_pose": make.pose(HAND, stamp, BASE),
        "gripper": make.gripper(1.0, stamp, BASE),
        "depth": make.image((DEPTH * 1000).astype(np.uint16), "16UC1", stamp, CAMERA_FRAME),
        "image": make.image(PIXELS, "rgb8", stamp, CAMERA_FRAME),
    }
