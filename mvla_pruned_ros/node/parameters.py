"""Parameters of the policy node: declared from one table, checked as a whole, taken as an immutable snapshot."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from ..configuration.fields import Field, fields_of
from ..control.action_spaces import INTERFACES
from ..control.limits import SPEED_LIMITS, Limits
from ..messages.decode import DEPTH_UNITS_M, MILLIMETRE, Readers
from ..messages.gripper import LARGEST, GripperCommandRange, GripperJoint
from ..observation.streams import cloud_streams, image_streams
from ..policy.engine.device import PRECISIONS
from ..policy.source import PolicySource
from ..pruning.base import check_keep_ratio
from ..pruning.methods import METHODS
from ..pruning.tri_stage.config import TriStageConfig
from .ros_parameters import declare, take_whole_numbers

PRUNING = "pruning."


SPECS: dict[str, Field] = {
    # Fixed at start.
    "policy": Field(
        "small",
        "Policy folder, the name of a shipped policy, or package.module:factory, code that makes one.",
        fixed=True,
    ),
    "device": Field("auto", "Where the policy runs: cpu, cuda, cuda:N, or auto (cuda where there is one).", fixed=True),
    "precision": Field(
        "auto", "Numbers of the network: fp32, bf16, fp16, int8 (weights of MLA policies, torchao needed), or "
        "auto (bf16 on a GPU, fp32 on the CPU; MLA policies as on disk, or fp32 on a CPU that does not multiply in "
        "that).", fixed=True,
        choices=PRECISIONS,
    ),
    "prune": Field(
        "always",
        "always, or auto: at start pruned and full calls are timed, and where pruned ones are no faster all tokens "
        "stay until method or keep_ratio is changed.",
        fixed=True,
        choices=("always", "auto"),
    ),
    "image_transport": Field("raw", "Colour images: raw or compressed.", fixed=True, choices=("raw", "compressed")),
    "depth_transport": Field(
        "raw", "Depth images: raw, or compressedDepth (PNG or RVL).", fixed=True, choices=("raw", "compressedDepth")
    ),
    "cloud_source": Field("depth", "Points come from ~/depth or ~/points.", fixed=True, choices=("depth", "points")),
    "depth_registered": Field(
        True, "Depth has frame and camera info of the colour image; false: its own, on ~/depth_camera_info.",
        fixed=True,
    ),
    "extra_images": Field(
        [""], "Colour images of more cameras: image_1 (with ~/image_1_camera_info), image_2, ...; the poses of their "
        "frames stand in sensor_frames, or tf tells them.", fixed=True, any_length=True
    ),
    "extra_clouds": Field(
        [""], "Clouds of more cameras: depth_1 (with ~/depth_1_camera_info), points_2, ...", fixed=True, any_length=True
    ),
    "base_frame": Field("base", "Frame of end-effector pose, workspace and commands.", fixed=True),
    "camera_frame": Field(
        "camera_color_optical_frame", "Optical frame of the image and of depth registered to it.", fixed=True
    ),
    "extrinsics_source": Field(
        "parameters", "Poses of cameras: parameters, or tf, looked up at each stamp (needs tf2_ros).", fixed=True,
        choices=("parameters", "tf"),
    ),
    "tf_timeout_ms": Field(
        50.0, "How long an observation waits for tf of its stamp; then it is dropped.", 0.0, 1000.0
    ),
    "extrinsics.translation": Field(
        [math.nan] * 3, "Camera position in the base frame, m. Required without tf.", fixed=True
    ),
    "extrinsics.rotation_xyzw": Field(
        [math.nan] * 4, "Orientation of the optical frame in the base frame, quaternion x y z w. Required without tf.",
        fixed=True,
    ),
    "sensor_frames": Field([""], "Other frames that depth or clouds are in.", fixed=True, any_length=True),
    "sensor_extrinsics": Field(
        [math.nan], "Pose of each of sensor_frames in the base frame: x y z in m, quaternion x y z w.", fixed=True,
        any_length=True,
    ),
    "hand_frames": Field(
        [""], "Those of camera_frame and sensor_frames that the hand carries: their extrinsics are poses in the frame "
        "of the end effector.", fixed=True, any_length=True,
    ),
    "ee_pose_source": Field(
        "topic", "Pose of the end effector: topic (~/ee_pose), or tf, that of ee_frame (needs tf2_ros).", fixed=True,
        choices=("topic", "tf"),
    ),
    "ee_frame": Field("", "Frame of the end effector in tf, as tool0; only with ee_pose_source tf.", fixed=True),
    "gripper_joint": Field(
        "", "Joint of ~/gripper that is the gripper, wherever it stands; empty: the message's only one.", fixed=True
    ),
    "gripper_closed": Field(
        0.0, "Position of that joint when the gripper is closed, rad or m.", -LARGEST, LARGEST, fixed=True
    ),
    "gripper_open": Field(
        1.0, "Position of that joint when the gripper is open, rad or m; 0 and 1: ~/gripper has the opening itself.",
        -LARGEST, LARGEST, fixed=True,
    ),
    "gripper_command_range": Field(
        [-1.0, 1.0], "Values that ~/command/gripper has for open and for closed, as [0.08, 0.0] m.", fixed=True
    ),
    "depth_unit_m": Field(
        MILLIMETRE, "Metres per unit of 16UC1 depth: 0.0001 of a D405, 0.00025 of an L515.", *DEPTH_UNITS_M, fixed=True
    ),
    "command_interface": Field(
        "twist",
        "What the controller is told: twist (velocity of the end effector), pose (where it shall be), joint_trajectory "
        "(where the joints shall be) or multi_array (numbers, for a forward controller). A Cartesian policy can drive "
        "twist, pose and multi_array; one of joint velocities or positions the last two.",
        fixed=True,
        choices=tuple(INTERFACES),
    ),
    "joint_names": Field(
        [""], "Joints that the policy's actions move, or whose positions it is told, in their order; none for others.",
        fixed=True, any_length=True,
    ),
    "require_enable": Field(
        False, "Nothing moves after activation until ~/enable is called with true.", fixed=True
    ),
    "discovery_wait_ms": Field(
        5000.0,
        "Nothing moves for so long after the node's start: it may take DDS that long to tell of another policy node on "
        "the command topic, beside which this one does not begin.",
        0.0,
        60000.0,
        fixed=True,
    ),
    "seed": Field(0, "Seed of random choices of the pruner.", 0, 2**31 - 1, fixed=True),
    "torch_threads": Field(1, "CPU threads of the policy; 0 leaves torch's default.", 0, 256, fixed=True),
    "autostart": Field(True, "Configure and activate at start; false waits for lifecycle calls.", fixed=True),
    "view": Field(
        "", "What the node sees and decides, shown by Rerun: spawn opens a window on this computer, FILE.rrd writes a "
        "file for one; empty shows nothing. Needs the extra view.", fixed=True,
    ),
    # Live.
    "instruction": Field("", "What to do, in words the policy knows; empty waits for ~/instruction."),
    "method": Field("tri_stage", f"Pruning rule: {', '.join(METHODS)}.", choices=METHODS),
    "keep_ratio": Field(0.5, "Visual tokens kept / visual tokens in, (0, 1]; 1 prunes nothing.", 0.0, 1.0),
    "command_rate_hz": Field(80.0, "Rate of commands; it does not depend on inference.", 1.0, 1000.0),
    "max_observation_age_ms": Field(
        500.0, "A stream silent, or an observation older, for longer than this stops the arm.", 10.0, 60000.0
    ),
    "sync_tolerance_ms": Field(
        60.0, "Largest difference of header stamps between image and each other stream of an observation.", 0.0, 1000.0
    ),
    "max_clock_jump_ms": Field(2000.0, "A jump of the clock ahead beyond this forgets the episode.", 100.0, 600000.0),
    "max_speed_m_s": Field(0.25, "Limit of commanded velocity, m/s; see speed_limit.", 0.0, 10.0),
    "max_angular_speed_rad_s": Field(
        0.5, "Limit of commanded angular velocity, rad/s; see speed_limit.", 0.0, 20.0
    ),
    "speed_limit": Field(
        "per_axis",
        "How Cartesian speeds are limited: per_axis cuts each axis off, which bends the way; norm shortens velocity "
        "and angular velocity, each as a whole, and keeps their directions.",
        choices=SPEED_LIMITS,
    ),
    "max_joint_speed": Field(0.25, "Limit of commanded joint velocity, rad/s (m/s of a sliding joint).", 0.0, 20.0),
    "joint_lower": Field(
        [-2 * math.pi], "Lowest commanded position of the joints, rad or m: one for all, or one each.", any_length=True
    ),
    "joint_upper": Field(
        [2 * math.pi], "Highest commanded position of the joints, rad or m: one for all, or one each.", any_length=True
    ),
    "target_lookahead_ms": Field(
        100.0,
        "A commanded pose or joint position is where the robot shall be after this time; none lies farther away than "
        "the speed limit goes in it.",
        1.0,
        2000.0,
    ),
    "splice": Field(
        "blend",
        "Where action chunks meet: blend leads the command to the new chunk by steps no larger than the policy's own "
        "between consecutive actions; switch takes the new chunk as it is.",
        choices=("blend", "switch"),
    ),
    "heartbeat_timeout_ms": Field(
        0.0,
        "A proof of life on ~/heartbeat that is silent for longer stops the arm until ~/enable is called; 0 asks for "
        "none.",
        0.0,
        60000.0,
    ),
    "slow_policy_ms": Field(
        200.0, "A policy call longer than this is a warning, five in a row an error.", 1.0, 60000.0
    ),
    "workspace_lower": Field([-10.0] * 3, "Corner of the end effector's box, base frame, m."),
    "workspace_upper": Field([10.0] * 3, "Opposite corner of the end effector's box, base frame, m."),
    **{PRUNING + name: field for name, field in fields_of(TriStageConfig).items()},
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """All parameters at one moment, checked together.

    Attributes:
        values: by name. pruning: of the tri-stage pruner. limits: of commands. gripper: where its opening is said.
        gripper_commands: what it is told.
    """

    values: dict[str, Any]
    pruning: TriStageConfig
    limits: Limits
    gripper: GripperJoint
    gripper_commands: GripperCommandRange

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @classmethod
    def of(cls, values: dict[str, Any]) -> Settings:
        """Check values as a whole.

        Raises:
            ValueError: names the parameter, its value and the bounds.
        """
        for name, spec in SPECS.items():
            spec.check(name, values[name])
        check_keep_ratio(values["keep_ratio"])
        image_streams(values["extra_images"])
        cloud_streams(values["cloud_source"], values["depth_registered"], values["extra_clouds"])
        limits = Limits(
            max_speed_m_s=values["max_speed_m_s"],
            workspace_lower=tuple(values["workspace_lower"]),
            workspace_upper=tuple(values["workspace_upper"]),
            max_angular_speed_rad_s=values["max_angular_speed_rad_s"],
            max_joint_speed=values["max_joint_speed"],
            joint_lower=tuple(values["joint_lower"]),
            joint_upper=tuple(values["joint_upper"]),
            lookahead_s=values["target_lookahead_ms"] / 1e3,
            speed_limit=values["speed_limit"],
            period_s=1 / values["command_rate_hz"],
        )
        joints = joint_names_of(values)
        for name in ("joint_lower", "joint_upper"):
            if joints and len(values[name]) not in (1, len(joints)):
                raise ValueError(
                    f"{name} has {len(values[name])} numbers, joint_names {len(joints)}: one for all or each"
                )
        pruning = {n[len(PRUNING) :]: v for n, v in values.items() if n.startswith(PRUNING)}
        gripper = GripperJoint(values["gripper_joint"], values["gripper_closed"], values["gripper_open"])
        commands = GripperCommandRange.of(values["gripper_command_range"])
        check_end_effector(values["ee_pose_source"], values["ee_frame"], values["base_frame"])
        return cls(dict(values), TriStageConfig(**pruning), limits, gripper, commands)

    def readers(self, functions: Readers) -> Readers:
        """How messages are read. Args: functions: that take the plain ones apart."""
        return dataclasses.replace(functions, gripper=self.gripper, depth_unit_m=self["depth_unit_m"])


def check_end_effector(source: str, frame: str, base: str) -> None:
    """Raises ValueError when tf is asked for the end effector without its frame, or the frame is given without need."""
    if frame and frame == base:
        raise ValueError(
            f"ee_frame is {frame!r}, which is base_frame too: name the frame of the end effector, as tool0"
        )
    if source == "tf" and not frame:
        raise ValueError(
            "ee_pose_source is tf, but ee_frame is empty: name the frame of the end effector in tf, as tool0, or set "
            "ee_pose_source to topic"
        )
    if source == "topic" and frame:
        raise ValueError(
            f"ee_frame is {frame!r}, but ee_pose_source is topic: set ee_pose_source to tf, or leave ee_frame empty"
        )


def joint_names_of(values: Mapping[str, Any] | Settings) -> tuple[str, ...]:
    """Joints that are commanded; none for a Cartesian policy. ROS has no empty list of words."""
    return tuple(name for name in values["joint_names"] if name)


def _calibrated_defaults(policy: str) -> dict[str, Any]:
    """Values of ``pruning.*`` for a policy: those fitted to it, where there are some."""
    try:
        config = PolicySource.of(policy).pruning()
    except ValueError:  # configure fails on the same error and says so
        config = TriStageConfig()
    return {PRUNING + name: value for name, value in dataclasses.asdict(config).items()}


class ParameterSet:
    """Declares the parameters of a node and keeps ``settings``, the last set that was accepted whole.

    The worker reads ``settings`` between calls: one reference, replaced by assignment, never changed in place.
    """

    def __init__(self, node: Node, check: Callable[[Settings], None]) -> None:
        """Args: check: raises ValueError for what only the node can know (an instruction the policy cannot follow)."""
        self._check = check
        first = declare(node, {"policy": SPECS["policy"]}, say_bounds=True)
        defaults = _calibrated_defaults(first["policy"])
        others = {name: spec for name, spec in SPECS.items() if name != "policy"}
        self.settings = Settings.of(first | declare(node, others, defaults, say_bounds=True))
        self._accepted = self.settings
        take_whole_numbers(node, SPECS)
        node.add_on_set_parameters_callback(self._on_set)
        node.add_post_set_parameters_callback(self._after_set)

    def _on_set(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        ours = {p.name: p.value for p in parameters if p.name in SPECS}
        try:
            settings = Settings.of({**self.settings.values, **ours})
            self._check(settings)
        except (ValueError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._accepted = settings
        return SetParametersResult(successful=True)

    def _after_set(self, parameters: Sequence[Parameter]) -> None:
        # The set that was checked, not one rebuilt from ``parameters``: some releases call this once per parameter
        # of an atomic set, and half of a set may not stand on its own.
        if any(p.name in SPECS for p in parameters):
            self.settings = self._accepted
