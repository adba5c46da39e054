"""What the simulator's sensors see, as ROS messages."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image, JointState, PointCloud2, PointField
from std_msgs.msg import Header

from ..node.message_fallback import byte_array
from ..types import CameraModel
from .viewpoint import POSITION, TARGET, look_at

BASE_FRAME = "base"
CAMERA_FRAME = "camera_color_optical_frame"

# Meta-World's mocap weld holds the hand pointing down, within a few degrees, in this orientation (x, y, z, w).
HAND_ORIENTATION = (0.0, 2**-0.5, 0.0, 2**-0.5)


def image_message(pixels: np.ndarray, encoding: str, stamp: Time) -> Image:
    """(H, W, 3) uint8 as ``rgb8`` or (H, W) float32 metres as ``32FC1``, seen by the camera."""
    message = Image(header=Header(stamp=stamp, frame_id=CAMERA_FRAME), encoding=encoding)
    message.height, message.width = pixels.shape[:2]
    message.step = pixels.nbytes // pixels.shape[0]
    message.is_bigendian = 0
    message.data = byte_array(pixels)
    return message


def depth_message(depth: np.ndarray, stamp: Time) -> Image:
    """(H, W) float32 metres, 0 where nothing was hit; REP-118 wants NaN there."""
    return image_message(np.where(depth > 0, depth, np.float32(np.nan)), "32FC1", stamp)


def camera_info_message(camera: CameraModel, stamp: Time) -> CameraInfo:
    """Intrinsics without distortion. CameraInfo puts the centre of a pixel at whole numbers, CameraModel at +0.5."""
    cx, cy = camera.cx - 0.5, camera.cy - 0.5
    message = CameraInfo(header=Header(stamp=stamp, frame_id=CAMERA_FRAME), distortion_model="plumb_bob")
    message.width, message.height = camera.width, camera.height
    message.d = [0.0] * 5
    message.k = [float(x) for x in (camera.fx, 0, cx, 0, camera.fy, cy, 0, 0, 1)]
    message.r = [float(x) for x in np.eye(3).ravel()]
    message.p = [float(x) for x in (camera.fx, 0, cx, 0, 0, camera.fy, cy, 0, 0, 0, 1, 0)]
    return message


class CloudMaker:
    """Organised point clouds in the camera's optical frame."""

    def __init__(self, camera: CameraModel) -> None:
        u = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
        v = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
        rays = np.stack([*np.meshgrid(u, v), np.ones((camera.height, camera.width))], -1)
        self._rays = rays.astype(np.float32)  # (H, W, 3), z = 1

    def message(self, depth: np.ndarray, stamp: Time) -> PointCloud2:
        """(H, W) float32 metres, 0 where nothing was hit: those points are NaN."""
        message = PointCloud2(header=Header(stamp=stamp, frame_id=CAMERA_FRAME))
        message.height, message.width = depth.shape
        message.fields = [
            PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate("xyz")
        ]
        message.point_step, message.row_step = 12, 12 * depth.shape[1]
        message.is_bigendian = False
        message.is_dense = bool((depth > 0).all())
        message.data = byte_array(self._rays * np.where(depth > 0, depth, np.float32(np.nan))[..., None])
        return message


def pose_message(position: np.ndarray, stamp: Time) -> PoseStamped:
    """End effector at (3,) metres in the base frame."""
    message = PoseStamped(header=Header(stamp=stamp, frame_id=BASE_FRAME))
    point, turn = message.pose.position, message.pose.orientation
    point.x, point.y, point.z = (float(x) for x in position)
    turn.x, turn.y, turn.z, turn.w = HAND_ORIENTATION
    return message


def gripper_message(opening: float, stamp: Time) -> JointState:
    """Opening 0 (closed) to 1 (open)."""
    return JointState(header=Header(stamp=stamp, frame_id=BASE_FRAME), name=["gripper"], position=[float(opening)])


def simulated_camera_extrinsics() -> tuple[list[float], list[float]]:
    """Translation (3, metres) and rotation (x, y, z, w) of the simulated camera's optical frame in the base frame."""
    pose = look_at(POSITION, TARGET)
    return pose[:3, 3].tolist(), Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()
