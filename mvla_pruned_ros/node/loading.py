"""All that configuring makes: policy and runtime, warm, the frames of observations, the form of commands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..control.action_spaces import ActionForm, CommandForm
from ..observation.builder import ObservationBuilder
from ..observation.frames import Frames, Lookup, pose_of, sensor_poses
from ..policy.base import Policy
from ..policy.engine.device import set_threads
from ..policy.runtime import PolicyRuntime, WarmUp
from ..policy.source import PolicySource
from ..pruning.methods import make_pruner
from .parameters import Settings, joint_names_of
from .ros_messages import installed_readers


@dataclass(frozen=True)
class Loaded:
    """What a configured node holds and lets go of at cleanup.

    Attributes:
        source: of the policy. runtime: it with its pruner, warm. builder: messages to observations. form: of commands.
        warm_up: how long calls took.
    """

    source: PolicySource
    runtime: PolicyRuntime
    builder: ObservationBuilder
    form: CommandForm
    warm_up: WarmUp

    @property
    def policy(self) -> Policy:
        return self.runtime.policy

    def summary(self, settings: Settings) -> str:
        """One line for the log."""
        warm_up = self.warm_up
        return (
            f"policy {settings['policy']} on {self.policy.device_name}, sends {self.form}, first call "
            f"{warm_up.first_ms:.0f} ms, then {warm_up.full_ms:.1f} ms with all visual tokens and "
            f"{warm_up.pruned_ms:.1f} ms pruned" + ("" if self.runtime.prune else ": nothing is pruned")
        )


def load(settings: Settings, tf_lookup: Callable[[], Lookup], warn: Callable[[str], Any]) -> Loaded:
    """Load, check and warm up.

    Args:
        tf_lookup: begins to listen to tf; called only if that is asked for. warn: told what works, but not as well as
            it could.

    Raises:
        ValueError: a parameter, the policy folder or the policy does not fit; says what to do.
    """
    readers, problems = installed_readers()
    for problem in problems:
        warn(problem)
    builder = ObservationBuilder(frames_of(settings, tf_lookup), readers)
    if settings["torch_threads"]:
        set_threads(settings["torch_threads"])
    source, form = PolicySource.of(settings["policy"]), None

    def take_form(actions: ActionForm, action_dim: int) -> None:
        nonlocal form
        form = CommandForm(settings["command_interface"], actions, action_dim, joint_names_of(settings))

    policy = source.load(settings["device"], settings["precision"], take_form)
    assert form is not None, "told by load"
    source.pruning()  # the declared defaults; a broken file must not pass unseen
    if settings["instruction"]:
        policy.check_instruction(settings["instruction"])
    pruner = make_pruner(settings["method"], settings["keep_ratio"], settings.pruning, settings["seed"])
    runtime = PolicyRuntime(policy, pruner)
    return Loaded(source, runtime, builder, form, warm_up(runtime, settings))


def frames_of(settings: Settings, tf_lookup: Callable[[], Lookup]) -> Frames:
    """Frame names, and the poses of the sensors: of ``extrinsics.*`` and ``sensor_extrinsics``, or asked of tf.

    Args:
        tf_lookup: see ``load``.

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
        raise ValueError(
            "depth_registered is false: name the frame of ~/depth in sensor_frames and give its pose in "
            "sensor_extrinsics, or set extrinsics_source to tf"
        )
    return Frames(base, camera, poses | {camera: pose_of(*extrinsics)})


def warm_up(runtime: PolicyRuntime, settings: Settings) -> WarmUp:
    """Run the policy on its example, so that no real call is slow, and see whether pruning pays if that is asked."""
    observation = runtime.policy.example()
    if settings["instruction"]:
        observation = dataclasses.replace(observation, instruction=settings["instruction"])
    decide = settings["prune"] == "auto"
    result = runtime.warm_up(observation, rounds=15 if decide else 1)
    runtime.prune = result.pruning_pays or not decide
    return result
