"""Five frames of a real depth camera as a bag. They are no part of the package; where they are absent tests skip."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore
from scipy.spatial.transform import Rotation

from mvla_pruned_ros.bags.reader import STORE
from mvla_pruned_ros.bags.setup import TOPICS
from mvla_pruned_ros.bags.writer import BAG_VERSION, bag_encoder
from mvla_pruned_ros.messages.encode import Encoder
from mvla_pruned_ros.types import CameraModel

FOLDER = Path(os.environ.get("KINECT_RGBD", Path(__file__).parents[2] / "shared" / "data" / "kinect_rgbd"))
needs_kinect = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no frames of a real depth camera in {FOLDER}: name their folder with KINECT_RGBD"
)
BASE, CAMERA = "base", "camera_color_optical_frame"
# The first optical frame (x right, y down, z forward) in a base frame that stands there with x forward and z up.
BASE_FROM_FIRST = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)
WORKSPACE = ((0.8, -1.5, -1.2), (4.0, 1.5, 1.0))  # m, base frame: the dining table and what stands around it
STEP_NS = 33_000_000
WORDS = "push the puck to the goal"  # what the policy of the tests understands


@dataclass(frozen=True)
class View:
    """One frame: (480, 640, 3) uint8 RGB, (480, 640) uint16 millimetres, 0 for no reading; pose of the camera."""

    colour: np.ndarray
    millimetres: np.ndarray
    base_from_camera: np.ndarray


def views() -> list[View]:
    poses = np.loadtxt(FOLDER / "pose.txt")
    first = matrix_of(poses[0])
    found = []
    for i, pose in enumerate(poses, 1):
        depth = np.asarray(Picture.open(FOLDER / "depth" / f"{i}.pgm")).astype(np.uint16)
        colour = np.asarray(Picture.open(FOLDER / "color" / f"{i}.png").convert("RGB"))
        found.append(View(colour, depth, BASE_FROM_FIRST @ np.linalg.inv(first) @ matrix_of(pose)))
    return found


def matrix_of(pose: np.ndarray) -> np.ndarray:
    """(4, 4) of tx ty tz qx qy qz qw."""
    matrix = np.eye(4)
    matrix[:3, 3], matrix[:3, :3] = pose[:3], Rotation.from_quat(pose[3:]).as_matrix()
    return matrix


def camera_model(base_from_camera: np.ndarray) -> CameraModel:
    """The intrinsics that come with the frames put the centre of a pixel at whole numbers."""
    return CameraModel(640, 480, 518.0, 519.0, 325.5 + 0.5, 253.5 + 0.5, base_from_camera)


def sensor_messages(make: Encoder, view: View, stamp: int, big_endian: bool = False) -> dict[str, Any]:
    """Encoder of one frame by role, as a Kinect driver and an arm would send them."""
    depth = make.image(view.millimetres.astype(">u2" if big_endian else "<u2"), "16UC1", stamp, CAMERA)
    depth.is_bigendian = int(big_endian)
    return {
        "camera_info": make.camera_info(camera_model(view.base_from_camera), stamp, CAMERA),
        "ee_pose": make.pose(np.array([1.6, 0.0, -0.3]), stamp, BASE),
        "gripper": make.gripper(1.0, stamp, BASE),
        "depth": depth,
        "image": make.image(view.colour, "rgb8", stamp, CAMERA),
    }


def write_kinect_bag(
    folder: Path, plugin: StoragePlugin = StoragePlugin.MCAP, big_endian: bool = False, step_ns: int = STEP_NS
) -> list[View]:
    """The frames under the names of `mvla record`; returns what was written."""
    frames, make, types = views(), bag_encoder(), get_typestore(STORE)
    with Writer(folder, version=BAG_VERSION, storage_plugin=plugin) as writer:
        connections: dict[str, Any] = {}

        def write(role: str, at: int, message: Any) -> None:
            kind = message.__msgtype__
            if role not in connections:
                connections[role] = writer.add_connection(TOPICS[role], kind, typestore=types)
            writer.write(connections[role], at, types.serialize_cdr(message, kind))

        write("instruction", 10**9, make.text(WORDS))
        for i, view in enumerate(frames):
            stamp = 10**9 + (i + 1) * step_ns
            for role, message in sensor_messages(make, view, stamp, big_endian).items():
                write(role, stamp, message)
    return frames
