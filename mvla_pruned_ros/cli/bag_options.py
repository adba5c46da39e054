"""Arguments of the subcommands that read bags. Light imports only: help must come at once."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import number

if TYPE_CHECKING:
    from ..bags.setup import BagSetup

ROLES = (
    "image, depth, points, camera_info, ee_pose, gripper, joint_states, instruction, twist, gripper_command; "
    "depth_camera_info of depth that is not registered to the image; image_1, image_1_camera_info, depth_1, "
    "depth_1_camera_info, points_2, ... of more cameras; tf, tf_static"
)


# By their names in the arguments.
BAG_OPTIONS = (
    "remap", "bag_config", "extrinsics", "extrinsics_source", "sensor_frame", "base_frame", "camera_frame",
    "sync_tolerance_ms", "instruction", "split",
)  # fmt: skip


def add_bag_arguments(parser: argparse.ArgumentParser) -> None:
    """--remap, --bag-config, --extrinsics, frames, --sync-tolerance-ms, --instruction, --split."""
    group = parser.add_argument_group(
        "reading a bag", "mcap or sqlite3, no ROS needed; what is left out is as `mvla record` and the node have it"
    )
    group.add_argument(
        "--remap", nargs="+", default=[], metavar="ROLE:=TOPIC", help=f"names of the bag's topics; roles: {ROLES}"
    )
    group.add_argument(
        "--bag-config", type=Path, metavar="FILE",
        help="YAML with topics, base_frame, camera_frame, extrinsics_source, extrinsics (translation, rotation_xyzw), "
        "depth_registered, extra_images, extra_clouds, sensor_frames, sensor_extrinsics, hand_frames, "
        "sync_tolerance_ms, instruction, split, ee_pose_source, ee_frame, gripper_joint, gripper_closed, gripper_open, "
        "gripper_command_range, depth_unit_m, joint_names; or a parameter file of the policy node",
    )  # fmt: skip
    group.add_argument(
        "--extrinsics", nargs=7, type=float, metavar=("X", "Y", "Z", "QX", "QY", "QZ", "QW"),
        help="pose of the camera's optical frame in the base frame, metres and quaternion (default: of the simulated "
        "cameras, for bags of `mvla record` only)",
    )  # fmt: skip
    group.add_argument(
        "--extrinsics-source", choices=("parameters", "tf"),
        help="poses as they are given, or those of the bag's /tf and /tf_static at each stamp, as for a camera on the "
        "wrist (default: parameters)",
    )  # fmt: skip
    group.add_argument(
        "--sensor-frame", nargs=8, action="append", default=[], metavar=("NAME", "X", "Y", "Z", "QX", "QY", "QZ", "QW"),
        help="pose of another frame that depth or clouds are in; may be given more than once",
    )  # fmt: skip
    group.add_argument("--base-frame", metavar="NAME", help="frame of end-effector pose and commands (default: base)")
    group.add_argument(
        "--camera-frame", metavar="NAME",
        help="optical frame of the image and what is registered to it (default: camera_color_optical_frame)",
    )  # fmt: skip
    group.add_argument(
        "--sync-tolerance-ms", type=number(0, 1000), metavar="MS",
        help="largest difference of stamps between an image and what belongs to it (default: 60, as in the node)",
    )  # fmt: skip
    group.add_argument("--instruction", metavar="WORDS", help="what was done, in place of the bag's topic")
    group.add_argument(
        "--split", choices=("instruction", "bag"),
        help="each instruction message begins an episode, or only one with other words (default: instruction)",
    )  # fmt: skip


def bag_setup(args: argparse.Namespace) -> BagSetup:
    """From the arguments; what is given on the command line goes before what is in the file.

    A bag of `mvla record` was taken with simulated cameras, whose poses are known.

    Raises:
        ValueError: names the argument or the key of the file.
    """
    from ..bags.setup import BagSetup
    from ..observation.frames import pose_of
    from ..sim.bag_wiring import recorded_wiring

    setup = BagSetup.load(args.bag_config) if args.bag_config else BagSetup()
    names = ("base_frame", "camera_frame", "extrinsics_source", "sync_tolerance_ms", "instruction", "split")
    values: dict[str, Any] = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.extrinsics:
        values["base_from_camera"] = pose_of(args.extrinsics[:3], args.extrinsics[3:])
    if args.sensor_frame:
        values["sensor_frames"] = [name for name, *_ in args.sensor_frame]
        values["sensor_extrinsics"] = [_number(text) for _, *pose in args.sensor_frame for text in pose]
    setup = replace(setup, **values).with_remaps(args.remap)
    if setup.base_from_camera is None and not setup.from_tf and setup.of_mvla_record:
        wiring, defaults = recorded_wiring(args.bag[0] if isinstance(args.bag, list) else args.bag), BagSetup()
        known = {n: value for n, value in wiring.frames().items() if getattr(setup, n) == getattr(defaults, n)}
        return replace(setup, base_from_camera=wiring.cameras[0].pose, **known)
    return setup


def print_unused(console: Any, not_used: dict[str, Any], drops: dict[str, int]) -> None:
    """What of a bag was not used, and why; nothing when all was."""
    from rich.text import Text

    for reason, count in not_used["reasons"].items():
        console.print(Text(f"{count} of {not_used['of']} pictures not used: {reason}"), soft_wrap=True)
    for cause, count in drops.items():
        if ": " in cause and not cause.startswith(("image: ", "not ready: ")):  # other streams'
            console.print(Text(f"{count} x {cause}"), soft_wrap=True)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--sensor-frame takes a name and seven numbers, got {text!r} among them") from None
