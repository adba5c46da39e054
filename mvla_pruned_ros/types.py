"""Data that passes between the layers: camera, observation, action chunk.

Units are SI, angles radians, stamps integer nanoseconds. Positions are in the robot's base frame unless a
name says otherwise; camera frames are optical frames of REP-103 (x right, y down, z forward).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

# What the values of an action mean, see ``control.action_spaces``.
ActionSpace = Literal["cartesian_velocity", "cartesian_delta", "cartesian_pose", "joint_velocity", "joint_position"]
ActionRotation = Literal["rotation_vector", "euler_xyz", "rotation_6d"]
ActionFrame = Literal["base", "tool"]
ActionPosition = Literal["absolute", "step"]


@dataclass(frozen=True)
class CameraModel:
    """A pinhole camera and where it stands.

    Attributes:
        width, height: image size in pixels.
        fx, fy, cx, cy: intrinsics in pixels; pixel (u, v) has its centre at (u + 0.5, v + 0.5).
        base_from_camera: (4, 4) float64, maps optical-frame points to base-frame points.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    base_from_camera: np.ndarray

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"camera size must be positive, got {self.width} x {self.height}")
        if not all(np.isfinite([self.fx, self.fy, self.cx, self.cy])) or self.fx <= 0 or self.fy <= 0:
            raise ValueError(f"camera needs finite, positive focal lengths, got fx={self.fx}, fy={self.fy}")
        if np.shape(self.base_from_camera) != (4, 4):
            raise ValueError(f"base_from_camera must be 4 x 4, got {np.shape(self.base_from_camera)}")

    def resized(self, width: int, height: int) -> CameraModel:
        """The same camera for an image that was resampled to (height, width)."""
        sx, sy = width / self.width, height / self.height
        return CameraModel(width, height, self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy, self.base_from_camera)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of base-frame points.

        Args:
            points: (N, 3) metres, base frame.

        Returns:
            uv: (N, 2) float pixel coordinates, may lie outside the image; depth: (N,) metres along the
            optical axis, not positive for points behind the camera (whose uv means nothing).
        """
        rotation, translation = self.base_from_camera[:3, :3], self.base_from_camera[:3, 3]
        local = (np.asarray(points, np.float64) - translation) @ rotation
        depth = local[:, 2]
        safe = np.where(depth > 1e-9, depth, 1.0)
        uv = np.stack([self.fx * local[:, 0] / safe + self.cx, self.fy * local[:, 1] / safe + self.cy], 1)
        return uv, depth


@dataclass(frozen=True)
class View:
    """One colour image.

    Attributes:
        name: of its stream: ``image``, or ``image_1``, ``image_2``, ... of more cameras.
        image: (H, W, 3) uint8, RGB, of any size; the policy resamples it.
        camera: model of the camera that took it, where it stood at the image's stamp.
    """

    name: str
    image: np.ndarray
    camera: CameraModel

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"{self.name} must be (H, W, 3) uint8 RGB, got {self.image.shape} {self.image.dtype}")
        if self.camera.width != self.image.shape[1] or self.camera.height != self.image.shape[0]:
            raise ValueError(
                f"camera model of {self.name} is for {self.camera.width} x {self.camera.height} pixels, "
                f"the image has {self.image.shape[1]} x {self.image.shape[0]}"
            )


@dataclass(frozen=True)
class ArmState:
    """What the robot says of itself. None: not known; a policy that takes it is refused.

    Attributes:
        position: (3,) end effector, metres, base frame. gripper: opening, 0 (closed) to 1 (open).
        orientation: (4,) unit quaternion x y z w of the end effector in the base frame.
        joints: (N,) rad, or metres of a sliding joint.
        last_command: (7,) pose that was last commanded: position in metres, quaternion x y z w.
    """

    position: np.ndarray
    gripper: float
    orientation: np.ndarray | None = None
    joints: np.ndarray | None = None
    last_command: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, size in (("position", 3), ("orientation", 4), ("joints", None), ("last_command", 7)):
            value = getattr(self, name)
            if value is None and name != "position":
                continue
            shape = np.shape(value)
            if len(shape) != 1 or shape != (size or shape[0],) or not np.isfinite(value).all():
                raise ValueError(f"{name} must be {size or 'N'} finite numbers, got {value}")
        if not np.isfinite(self.gripper):
            raise ValueError(f"gripper must be finite, got {self.gripper}")


@dataclass(frozen=True)
class Observation:
    """What the policy is shown at one instant. This is where the input format is defined.

    Attributes:
        stamp_ns: when the sensors saw it (header time of the first view's image).
        views: one or more colour images, each with its camera, under different names.
        points: (N, 3) float32, base frame, metres, finite; of all depth sensors, any number, unordered, need not be
            cropped. Not to be changed in place: a policy keeps what it made of an array for the next observation that
            holds the same one.
        state: of the robot at the stamp.
        instruction: what to do, in words.
    """

    stamp_ns: int
    views: tuple[View, ...]
    points: np.ndarray
    state: ArmState
    instruction: str

    def __post_init__(self) -> None:
        names = [view.name for view in self.views]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"an observation has one or more views of different names, got {names}")
        if self.points.ndim != 2 or self.points.shape[1] != 3:
            raise ValueError(f"points must be (N, 3), got {self.points.shape}")

    def chosen_views(self, names: Sequence[str]) -> list[View]:
        """The views of these names, in this order.

        Raises:
            ValueError: one is missing.
        """
        found = {view.name: view for view in self.views}
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(
                f"the policy takes the views {', '.join(names)}; the observation has {', '.join(found)}: set the "
                "parameter extra_images"
            )
        return [found[name] for name in names]


@dataclass(frozen=True)
class ActionChunk:
    """Actions for the steps that follow an observation.

    Attributes:
        stamp_ns: stamp of the observation it answers; action k is meant for
            [stamp + k * step, stamp + (k + 1) * step), counted from ``begins_ns`` where that is given.
        step_s: time between two actions, seconds.
        actions: (K, A) float32: in the action space ``cartesian_velocity``, end-effector velocity x, y, z in m/s (base
            frame), then the gripper command, -1 (open) to 1 (close). The other spaces: see ``control.action_spaces``.
        origin: (3,) where the end effector was at the stamp, metres, base frame: steps of the position begin there.
        begins_ns: when action 0 is due, if that is not the stamp, see ``from_rest``.
    """

    stamp_ns: int
    step_s: float
    actions: np.ndarray
    origin: np.ndarray | None = None
    begins_ns: int | None = None

    @property
    def start_ns(self) -> int:
        """When action 0 is due."""
        return self.stamp_ns if self.begins_ns is None else self.begins_ns

    def index_at(self, time_ns: int) -> int:
        """Which action is due at ``time_ns``; below 0 or from K on when the chunk does not cover it."""
        return int((time_ns - self.start_ns) // round(self.step_s * 1e9))

    def from_rest(self, time_ns: int, rest_ns: int) -> ActionChunk:
        """The chunk for a robot that stands still since ``rest_ns``: all of it from ``time_ns`` on, if it was seen so.

        It was seen so from a step before: the first image of an episode may precede the command to stop by as much.

        Skipping what is past is right for a robot that moved meanwhile. One that stood still is where it was seen, and
        what is skipped then is a part of its way. A chunk that is over before it begins stays so, and one begins once.
        """
        seen_so = self.stamp_ns + round(self.step_s * 1e9) >= rest_ns
        late = self.begins_ns is None and 0 < self.index_at(time_ns) < len(self.actions)
        return replace(self, begins_ns=time_ns) if seen_so and late else self
