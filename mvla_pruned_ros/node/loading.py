"""All that configuring makes: policy and runtime, warm, the frames of observations, the form of commands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..control.action_spaces import ActionForm, CommandForm
from ..messages.decode import Readers
from ..observation.builder import ObservationBuilder
from ..observation.frames import Frames, Lookup, of_the_hand, pose_of, sensor_poses
from ..observation.streams import image_streams, info_of, is_camera_info
from ..policy.base import Policy
from ..policy.engine.device import set_threads
from ..policy.proprio import OF_ORIENTATION
from ..policy.runtime import PolicyRuntime, WarmUp
from ..policy.source import PolicySource
from ..pruning.methods import make_pruner
from ..viewer.target import check_target
from .parameters import Settings, joint_names_of
from .ros_messages import installed_readers


@dataclass(frozen=True)
class Loaded:
    """What a configured node holds and lets go of at cleanup.

    Attributes:
        source: of the policy. runtime: it with its pruner, warm. builder: messages to observations. form: of commands.
        warm_up: how long calls took. frames: that observations are in.
    """

    source: PolicySource
    runtime: PolicyRuntime
    builder: ObservationBuilder
    form: CommandForm
    warm_up: WarmUp
    frames: Frames

    @property
    def takes_joints(self) -> bool:
        """Whether observations need the positions of joints."""
        return takes_joints(self.policy)

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


@dataclass(frozen=True)
class LoadedPolicy:
    """The policy, before it is known where its cameras are.

    Attributes:
        source, runtime, form: see ``Loaded``; the runtime is not warm. readers: of the messages that it is told.
    """

    source: PolicySource
    runtime: PolicyRuntime
    form: CommandForm
    readers: Readers


def load(settings: Settings, tf_lookup: Callable[[], Lookup], warn: Callable[[str], Any]) -> Loaded:
    """Load, check and warm up.

    Args:
        tf_lookup: begins to listen to tf; called only if that is asked for. warn: told what works, but not as well as
            it could.

    Raises:
        ValueError: a parameter, the policy folder or the policy does not fit; says what to do.
    """
    frames = frames_of(settings, tf_lookup)
    policy = load_policy(settings, warn)
    if settings["instruction"]:
        policy.runtime.policy.check_instruction(settings["instruction"])
    builder = ObservationBuilder(frames, policy.readers)
    return Loaded(policy.source, policy.runtime, builder, policy.form, warm_up(policy.runtime, settings), frames)


def load_policy(settings: Settings, warn: Callable[[str], Any]) -> LoadedPolicy:
    """Load and check what does not depend on frames and instruction. warn, raises: see ``load``."""
    check_target(settings["view"])
    functions, problems = installed_readers()
    for problem in problems:
        warn(problem)
    if settings["torch_threads"]:
        set_threads(settings["torch_threads"])
    source, form = PolicySource.of(settings["policy"]), None

    def take_form(actions: ActionForm, action_dim: int) -> None:
        nonlocal form
        form = CommandForm(settings["command_interface"], actions, action_dim, joint_names_of(settings))

    policy = source.load(settings["device"], settings["precision"], take_form)
    assert form is not None, "told by load"
    readers = dataclasses.replace(
        settings.readers(functions), joints=joint_names_of(settings) if takes_joints(policy) else (),
        orientation=any(name in OF_ORIENTATION for name in policy.proprio),
    )  # fmt: skip
    check_inputs(policy, settings)
    source.pruning()  # the declared defaults; a broken file must not pass unseen
    pruner = make_pruner(settings["method"], settings["keep_ratio"], settings.pruning, settings["seed"])
    return LoadedPolicy(source, PolicyRuntime(policy, pruner), form, readers)


def takes_joints(policy: Policy) -> bool:
    """Whether a policy is told where the joints are."""
    return "joint_positions" in policy.proprio


def check_inputs(policy: Policy, settings: Settings) -> None:
    """Raises ValueError when a policy takes a view or joints of which the parameters name no source."""
    given = {name for name in image_streams(settings["extra_images"]) if not is_camera_info(name)}
    missing = [name for name in policy.views if name not in given]
    if missing:
        raise ValueError(
            f"the policy takes the views {', '.join(policy.views)}: name {', '.join(missing)} in extra_images, and "
            f"remap ~/{missing[0]} and ~/{info_of(missing[0])}"
        )
    if takes_joints(policy) and not joint_names_of(settings):
        raise ValueError("the policy takes joint_positions: name the joints in joint_names, in the policy's order")


def frames_of(settings: Settings, tf_lookup: Callable[[], Lookup]) -> Frames:
    """Frame names, and the poses of the sensors: of ``extrinsics.*`` and ``sensor_extrinsics``, or asked of tf.

    Where tf is listened to for the end effector alone, it is also asked for frames that were not given.

    Args:
        tf_lookup: see ``load``.

    Raises:
        ValueError: poses are missing, are none, or are given although tf is asked for; or tf2_ros is not installed.
    """
    base, camera = settings["base_frame"], settings["camera_frame"]
    extrinsics = settings["extrinsics.translation"], settings["extrinsics.rotation_xyzw"]
    others = settings["sensor_frames"], settings["sensor_extrinsics"]
    on_hand = [name for name in settings["hand_frames"] if name]
    if settings["extrinsics_source"] == "tf":
        if np.isfinite([*extrinsics[0], *extrinsics[1], *others[1]]).any():
            raise ValueError(
                "extrinsics_source is tf: leave extrinsics.* and sensor_extrinsics out, or set it to parameters"
            )
        if on_hand:
            raise ValueError("extrinsics_source is tf, which tells where the hand's cameras are: leave hand_frames out")
        return Frames(base, camera, {}, tf_lookup(), settings["ee_frame"])
    poses = sensor_poses(*others)
    if not settings["depth_registered"] and settings["cloud_source"] == "depth" and not poses:
        raise ValueError(
            "depth_registered is false: name the frame of ~/depth in sensor_frames and give its pose in "
            "sensor_extrinsics, or set extrinsics_source to tf"
        )
    still, hand = of_the_hand(poses | {camera: pose_of(*extrinsics)}, on_hand)
    if settings["ee_pose_source"] == "tf":
        return Frames(base, camera, still, tf_lookup(), settings["ee_frame"], hand)
    return Frames(base, camera, still, hand=hand)


def warm_up(runtime: PolicyRuntime, settings: Settings) -> WarmUp:
    """Run the policy on its example, so that no real call is slow, and see whether pruning pays if that is asked."""
    observation = runtime.policy.example()
    if settings["instruction"]:
        observation = dataclasses.replace(observation, instruction=settings["instruction"])
    decide = settings["prune"] == "auto"
    result = runtime.warm_up(observation, rounds=15 if decide else 1)
    runtime.prune = result.pruning_pays or not decide
    return result
