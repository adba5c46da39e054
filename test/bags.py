"""Bags for tests, written without ROS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from mvla_pruned_ros.bags.setup import ROLES, TOPICS
from mvla_pruned_ros.bags.writer import BagWriter
from mvla_pruned_ros.observation.streams import INFO
from mvla_pruned_ros.types import Observation

BASE, CAMERA = "base", "camera_color_optical_frame"


def depth_of(observation: Observation) -> np.ndarray:
    """(H, W) float32 metres of the points the camera sees; NaN elsewhere."""
    uv, depth = observation.views[0].camera.project(observation.points)
    image = np.full(observation.views[0].image.shape[:2], np.nan, np.float32)
    for (u, v), z in zip(uv.astype(int), depth):
        if z > 0 and 0 <= u < image.shape[1] and 0 <= v < image.shape[0]:
            image[v, u] = z
    return image


def numbers_of(pose: np.ndarray) -> list[float]:
    """x y z qx qy qz qw of (4, 4)."""
    return [*pose[:3, 3].tolist(), *Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()]


def optional(value: np.ndarray | None) -> list[Any]:
    """Arguments of what is only there if it is known."""
    return [] if value is None else [value]


def write_bag(
    folder: Path,
    frames: list[Observation | str],
    lost: tuple[int, str] = (-1, ""),
    topics: dict[str, str] | None = None,
    commands: bool = False,
    transforms: Sequence[tuple[int, str, str, np.ndarray]] = (),
    change: Callable[[int, str, Any], Any] = lambda i, role, message: message,
    late_ns: Mapping[str, int] = MappingProxyType({}),
    period_ns: int = 10**8,
) -> None:
    """A bag with the topics of `mvla record`, or others; views but the first are in frames of their names.

    Args:
        frames: observations, and instructions between them. lost: frame and role of a message that is left out.
        topics: role -> name, where it differs. commands: four steps of 12.5 ms of a twist that counts up after each.
        transforms: stamp, parent, child and (4, 4) pose of the child; stamp 0 is static. After all else.
        change: given frame, role and message of a sensor or a twist, returns what is written instead.
        late_ns: role -> how much later its messages are logged. period_ns: between frames in the log.
    """
    names = TOPICS | (topics or {})
    kinds = {names[role]: ROLES[role][0] for role in ROLES if role != "points"}
    observations = [frame for frame in frames if not isinstance(frame, str)]
    for view in observations[0].views[1:] if observations else ():
        names |= {view.name: f"/simulator/{view.name}", view.name + INFO: f"/simulator/{view.name + INFO}"}
        kinds |= {names[view.name]: "sensor_msgs/msg/Image", names[view.name + INFO]: "sensor_msgs/msg/CameraInfo"}
    kinds |= dict.fromkeys(("/tf", "/tf_static") if transforms else (), "tf2_msgs/msg/TFMessage")
    count = 0
    with BagWriter(folder, kinds) as writer:
        make = writer.messages
        for i, frame in enumerate(frames):
            at = (i + 1) * period_ns
            if isinstance(frame, str):
                writer.write(names["instruction"], at, make.text(frame))
                continue
            stamp = frame.stamp_ns
            parts = {
                "camera_info": make.camera_info(frame.views[0].camera, stamp, CAMERA),
                "ee_pose": make.pose(frame.state.position, stamp, BASE, *optional(frame.state.orientation)),
                "gripper": make.gripper(frame.state.gripper, stamp, BASE),
                "depth": make.image(depth_of(frame), "32FC1", stamp, CAMERA),
                "image": make.image(frame.views[0].image, "rgb8", stamp, CAMERA),
            }
            for view in frame.views[1:]:
                parts[view.name + INFO] = make.camera_info(view.camera, stamp, view.name)
                parts[view.name] = make.image(view.image, "rgb8", stamp, view.name)
            for j, (role, message) in enumerate(parts.items()):
                if (i, role) != lost:
                    writer.write(names[role], at + j + late_ns.get(role, 0), change(i, role, message))
            for k in range(4 * commands):
                velocity = np.array([0.001 * count, 0.0, -0.1])
                twist = change(i, "twist", make.twist(velocity, stamp + k * 12_500_000, BASE))
                writer.write(names["twist"], at + 10 + k, twist)
                writer.write(names["gripper_command"], at + 10 + k, make.number(-1.0 if count < 8 else 1.0))
                count += 1
        for stamp, parent, child, pose in transforms:
            numbers = numbers_of(pose)
            vector = make.make("geometry_msgs/msg/Vector3", **dict(zip("xyz", numbers)))
            quaternion = make.make("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", numbers[3:])))
            both = make.make("geometry_msgs/msg/Transform", translation=vector, rotation=quaternion)
            one = make.make(
                "geometry_msgs/msg/TransformStamped",
                header=make.header(stamp, parent),
                child_frame_id=child,
                transform=both,
            )
            tree = make.make("tf2_msgs/msg/TFMessage", transforms=[one])
            writer.write("/tf" if stamp else "/tf_static", 10**10, tree)
