"""Parameters of the node to what turns messages into observations, and to a policy that is warm."""

from __future__ import annotations

import dataclasses

from ..messages import Frames, pose_of
from ..runtime import PolicyRuntime, WarmUp
from .parameters import Settings


def frames_of(settings: Settings) -> Frames:
    """Frame names, and the pose of the camera from ``extrinsics.*``; raises ValueError as ``pose_of`` does."""
    pose = pose_of(settings["extrinsics.translation"], settings["extrinsics.rotation_xyzw"])
    return Frames(settings["base_frame"], settings["camera_frame"], pose)


def warm_up(runtime: PolicyRuntime, settings: Settings) -> WarmUp:
    """Run the policy on made-up input, so that no real call is slow, and see whether pruning pays if that is asked."""
    observation = runtime.policy.example()
    if settings["instruction"]:
        observation = dataclasses.replace(observation, instruction=settings["instruction"])
    decide = settings["prune"] == "auto"
    result = runtime.warm_up(observation, rounds=15 if decide else 1)
    runtime.prune = result.pruning_pays or not decide
    return result
