"""Parameters of the node to what turns messages into observations, and to a policy that is warm."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from ..observation.frames import Frames, Lookup, pose_of, sensor_poses
from ..policy.runtime import PolicyRuntime, WarmUp
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


def warm_up(runtime: PolicyRuntime, settings: Settings) -> WarmUp:
    """Run the policy on made-up input, so that no real call is slow, and see whether pruning pays if that is asked."""
    observation = runtime.policy.example()
    if settings["instruction"]:
        observation = dataclasses.replace(observation, instruction=settings["instruction"])
    decide = settings["prune"] == "auto"
    result = runtime.warm_up(observation, rounds=15 if decide else 1)
    runtime.prune = result.pruning_pays or not decide
    return result
