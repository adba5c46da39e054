"""A made-up arm of seven joints with a camera beside it and one on its hand: where everything is at a stamp, computed.

The hand goes round a circle with 0.3 m/s, turns with 1 rad/s and nods; the scene is a room of a few planes. So what
cameras see, and what an observation has to be, is known for any stamp.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry.poses import look_at
from ..types import CameraModel

OUTSIDE, WRIST = "camera_color_optical_frame", "wrist_color_optical_frame"
SPEED_M_S, TURN_RAD_S = 0.3, 1.0
CIRCLE_M = 0.1  # radius: three rounds in the time of one turn
MIDDLE = np.array([0.0, 0.66, 0.3])  # of the circle, metres
PERIOD_NS = round(2 * math.pi / TURN_RAD_S * 1e9)  # after which all repeats
DOWN_RAD, NOD_RAD = math.pi + 0.3, 0.1  # about x, of the hand at the beginning of a turn, and how far it nods
JOINTS = tuple(f"joint{number}" for number in range(1, 8))
SWING_RAD = 0.3  # of each joint
DEPTH_UNIT_M = 0.0001
FARTHEST_M = 6.0  # of 16 bits in that unit
BESIDE = look_at(np.array([-0.5, 0.05, 0.7]), np.array([0.0, 0.66, 0.1]))
ON_HAND = np.eye(4)  # of the wrist camera, in the frame of the end effector
ON_HAND[:3, :3], ON_HAND[:3, 3] = Rotation.from_euler("xyz", [-0.2, 0.1, 0.5]).as_matrix(), (0.06, 0.01, -0.05)
# (normal, distance): the room is where normal . x < distance, for all of them: above a floor, before a wall and a ramp.
PLANES = (
    (np.array([0.0, 0.0, -1.0]), -0.02),
    (np.array([0.0, 1.0, 0.0]), 0.95),
    (np.array([math.sqrt(0.5), 0.0, -math.sqrt(0.5)]), 0.2),
)


def _numbers(pose: np.ndarray) -> list[float]:
    """x y z, quaternion x y z w."""
    return [*pose[:3, 3].tolist(), *Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()]


# Of a policy node that observes this arm.
VIEWS: dict[str, Any] = {
    "extra_images": ["image_1"],
    "sensor_frames": [WRIST],
    "sensor_extrinsics": _numbers(ON_HAND),
    "hand_frames": [WRIST],
    "joint_names": list(JOINTS),
}
PARAMETERS: dict[str, Any] = {
    **VIEWS,
    "extra_clouds": ["depth_1"],
    "depth_unit_m": DEPTH_UNIT_M,
    "extrinsics.translation": _numbers(BESIDE)[:3],
    "extrinsics.rotation_xyzw": _numbers(BESIDE)[3:],
}


def hand_at(stamp_ns: int) -> np.ndarray:
    """(4, 4) pose of the end effector in the base frame."""
    turned = TURN_RAD_S * (stamp_ns % PERIOD_NS) * 1e-9
    round_ = SPEED_M_S / CIRCLE_M / TURN_RAD_S * turned
    pose = np.eye(4)
    nod = DOWN_RAD + NOD_RAD * math.sin(round_)
    pose[:3, :3] = (Rotation.from_euler("z", turned) * Rotation.from_euler("x", nod)).as_matrix()
    pose[:3, 3] = MIDDLE + CIRCLE_M * np.array([math.cos(round_), math.sin(round_), 0.0])
    return pose


def joints_at(stamp_ns: int) -> np.ndarray:
    """(7,) positions, rad."""
    turned = TURN_RAD_S * (stamp_ns % PERIOD_NS) * 1e-9
    return SWING_RAD * np.sin(turned + np.arange(len(JOINTS)))


def wrist_at(stamp_ns: int) -> np.ndarray:
    """(4, 4) pose of the wrist camera in the base frame."""
    return hand_at(stamp_ns) @ ON_HAND


def depth_of(camera: CameraModel) -> np.ndarray:
    """(H, W) float32 metres along the optical axis of a camera in the room; 0: nothing within ``FARTHEST_M``."""
    pose = camera.base_from_camera
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    nearness = np.full((camera.height, camera.width), 1 / FARTHEST_M, np.float32)
    for normal, distance in PLANES:
        right, down, ahead = normal @ pose[:3, :3] / (distance - normal @ pose[:3, 3])
        np.maximum(nearness, np.add.outer((y * down + ahead).astype(np.float32), (x * right).astype(np.float32)),
                   out=nearness)  # fmt: skip
    return np.where(nearness > np.float32(1 / FARTHEST_M), 1 / nearness, np.float32(0))


def depth_values(camera: CameraModel) -> np.ndarray:
    """(H, W) uint16 of a depth image in ``DEPTH_UNIT_M``."""
    return np.rint(depth_of(camera) / np.float32(DEPTH_UNIT_M)).astype(np.uint16)
