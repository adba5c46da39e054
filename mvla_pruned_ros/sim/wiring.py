"""How a simulated robot is wired to ROS: its topics and frames, and where its cameras are. Needs no simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from .tasks import is_libero

BASE_FRAME = "base"


@dataclass(frozen=True)
class CameraMount:
    """An RGB-D camera.

    Attributes:
        view: of the ``View`` that it gives, and the topic of its images. frame: its optical frame.
        pose: (4, 4) of that frame, in the base frame or, with ``on_hand``, in the frame of the end effector.
    """

    view: str
    frame: str
    pose: np.ndarray
    on_hand: bool = False

    @property
    def info(self) -> str:
        """Topic of its camera info."""
        return "camera_info" if self.view == "image" else f"{self.view}_camera_info"

    @property
    def depth(self) -> str:
        """Topic of its depth, which is registered to its images."""
        return self.view.replace("image", "depth")

    @property
    def numbers(self) -> list[float]:
        """x y z in metres, quaternion x y z w."""
        return [*self.pose[:3, 3].tolist(), *Rotation.from_matrix(self.pose[:3, :3]).as_quat().tolist()]


@dataclass(frozen=True)
class Wiring:
    """One robot's.

    Attributes:
        cameras: the one of ``image`` first, which stands still. joints: of the arm, in the order of the state.
        task: one of those that the robot does.
    """

    task: str
    cameras: tuple[CameraMount, ...]
    joints: tuple[str, ...] = ()

    def topics(self) -> dict[str, str]:
        """Topic of each sensor -> type."""
        out = {
            "camera_info": "sensor_msgs/msg/CameraInfo",
            "ee_pose": "geometry_msgs/msg/PoseStamped",
            "gripper": "sensor_msgs/msg/JointState",
            "depth": "sensor_msgs/msg/Image",
            "points": "sensor_msgs/msg/PointCloud2",
            "image": "sensor_msgs/msg/Image",
        }
        for camera in self.cameras[1:]:
            info, image = out["camera_info"], out["image"]
            out |= {camera.view: image, camera.info: info, camera.depth: image, f"{camera.depth}_camera_info": info}
        return out | ({"joint_states": "sensor_msgs/msg/JointState"} if self.joints else {})

    def frames(self) -> dict[str, Any]:
        """The same as a policy node's parameters and a bag's setup name it; lists only where there is something."""
        others = self.cameras[1:]
        lists = {
            "extra_images": [camera.view for camera in others],
            "extra_clouds": [camera.depth for camera in others],
            "sensor_frames": [camera.frame for camera in others],
            "sensor_extrinsics": [number for camera in others for number in camera.numbers],
            "hand_frames": [camera.frame for camera in others if camera.on_hand],
            "joint_names": list(self.joints),
        }
        return {"camera_frame": self.cameras[0].frame} | {name: values for name, values in lists.items() if values}

    def parameters(self) -> dict[str, Any]:
        """Of a policy node that observes this robot."""
        numbers = self.cameras[0].numbers
        return {"extrinsics.translation": numbers[:3], "extrinsics.rotation_xyzw": numbers[3:], **self.frames()}


def all_wirings() -> tuple[Wiring, ...]:
    """All there are; the frame of the first camera tells them apart."""
    from .libero.viewpoint import WIRINGS
    from .metaworld.viewpoint import WIRING

    return WIRING, *WIRINGS.values()


def wiring_of(task: str) -> Wiring:
    """That of the robot of a task.

    Raises:
        ValueError: there is no such task.
    """
    from .libero.tasks import LIBERO_TASKS
    from .libero.viewpoint import WIRINGS
    from .metaworld.viewpoint import WIRING

    return WIRINGS[LIBERO_TASKS[task].suite] if is_libero(task) else WIRING


def common_wiring(tasks: Sequence[str]) -> Wiring:
    """That of all of some tasks.

    Raises:
        ValueError: they have several, or there are none.
    """
    first, *others = tasks
    for task in others:
        if wiring_of(task) is not wiring_of(first):
            raise ValueError(f"the cameras of {first} and {task} stand at other places: a bag holds one of the two")
    return wiring_of(first)
