"""Parameters of the node to what turns messages into observations, and to a policy that is warm."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import is_
from typing import Any

import numpy as np

from ..matching import MatchedMessages
from ..messages import observation_of, points_of
from ..runtime import PolicyRuntime, WarmUp
from ..sensors import Frames, Lookup, is_cloud, pose_of, sensor_poses
from ..types import Observation
from .parameters import Settings


def frames_of(settings: Settings, tf_lookup: Callable[[], Lookup]) -> Frames:
    """Frame names, and the poses of the sensors: of ``extrinsics.*`` and ``sensor_extrinsics``, or asked of tf.

    Args:
        tf_lookup: begins to listen to tf; called only if that is asked for.

    Raises:
        ValueError: poses are missing, are none, or are given although tf is asked for; or tf2_ros is not installed.
    """
    base, camera = settings["base_frame"], settings["camera_frame"]
    extrinsics = settings["extrinsics.translation"], settings["extrinsics.rotation_xyzw"]
    others = settings["sensor_frames"], settings["sensor_extrinsics"]
    if settings["extrinsics_source"] == "tf":
        if np.isfinite([*extrinsics[0], *extrinsics[1], *others[1]]).any():
            raise ValueError(
                "extrinsics_source is tf: leave extrinsics.* and sensor_extrinsics out, or set it to parameters"
            )
        return Frames(base, camera, {}, tf_lookup())
    poses = sensor_poses(*others)
    if not settings["depth_registered"] and settings["cloud_source"] == "depth" and not poses:
        raise ValueError("depth_registered is false: name the frame of ~/depth in sensor_frames and give its pose in "
                         "sensor_extrinsics, or set extrinsics_source to tf")  # fmt: skip
    return Frames(base, camera, poses | {camera: pose_of(*extrinsics)})


class Observer:
    """Matched messages to observations. A cloud that serves several images is converted once, and so, because they hold
    the same array, grouped once by the policy."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._clouds: list[Any] = []
        self._points = np.empty((0, 3), np.float32)

    def observe(self, matched: MatchedMessages, instruction: str) -> Observation:
        """Raises ConversionError and TransformError as ``observation_of`` does."""
        messages = matched.messages
        clouds = {name: message for name, message in messages.items() if is_cloud(name)}
        if len(clouds) != len(self._clouds) or not all(map(is_, clouds.values(), self._clouds)):
            self._points = points_of(messages, self._frames)
            # What becomes of a depth image depends on its camera info too, and it is as new as the colour image.
            self._clouds = list(clouds.values()) if all(name.startswith("points") for name in clouds) else []
        return observation_of(matched.stamp_ns, messages, instruction, self._frames, self._points)


def warm_up(runtime: PolicyRuntime, settings: Settings) -> WarmUp:
    """Run the policy on made-up input, so that no real call is slow, and see whether pruning pays if that is asked."""
    observation = runtime.policy.example()
    if settings["instruction"]:
        observation = dataclasses.replace(observation, instruction=settings["instruction"])
    decide = settings["prune"] == "auto"
    result = runtime.warm_up(observation, rounds=15 if decide else 1)
    runtime.prune = result.pruning_pays or not decide
    return result
