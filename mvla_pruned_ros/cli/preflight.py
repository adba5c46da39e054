"""``mvla preflight``: is this robot ready for the policy node? Listens, moves nothing, prints one table.

Give it what the node will get: its parameter file and its remappings. It listens for a few seconds, calls the policy on
what it saw, and prints a line for each check, OK, WARN, FAIL or ? (could not be judged), with what to do below. It has
no publisher of commands and calls no service. DIR/preflight.png shows points, workspace and end effector on the image.

With a bag in the place of the live robot, the same is checked of what was recorded; no ROS is needed then.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import options
from .bag_options import BAG_OPTIONS, ROLES, add_bag_arguments, bag_setup
from .options import add_out_argument

if TYPE_CHECKING:
    from ..preflight.report import Report, Subject

SUMMARY = "is this robot ready for the policy node? moves nothing"
EPILOG = """\
examples:
  mvla preflight --params my_robot.yaml -r '~/image:=/camera/color/image_raw' '~/ee_pose:=/arm/pose'
  mvla preflight --params my_robot.yaml --ros-args -r __ns:=/left -p keep_ratio:=0.35
  ros2 run mvla_pruned_ros preflight --ros-args --params-file my_robot.yaml -r '~/image:=/camera/color/image_raw'
  mvla preflight my_bag --bag-config my_robot.yaml --remap image:=/camera/color/image_raw

exit code: 0 all is well (or could not be judged, ?), 1 there is a WARN, 2 there is a FAIL, or it cannot be run.
"""
OF_BAG = tuple(name for name in BAG_OPTIONS if name != "remap")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("bag", type=Path, nargs="?", metavar="BAG", help="a rosbag2 in the place of the live robot")
    parser.add_argument("--params", type=Path, metavar="FILE", help="parameter file of the policy node")
    parser.add_argument(
        "-r", dest="remap", nargs="+", action="extend", default=[], metavar="REMAP",
        help="remappings as the node takes them, '~/image:=/camera/color/image_raw'; the same as --remap",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=options.number(0.2, 600), default=5.0, help="how long to listen, of a bag how much to read "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--policy", type=options.policy, metavar="DIR", help="in the place of the parameter policy")
    parser.add_argument("--device", help="in the place of the parameter device")
    parser.add_argument("--keep", type=options.ratio, metavar="RATIO", help="in the place of the parameter keep_ratio")
    add_out_argument(parser, "out/preflight")
    add_bag_arguments(parser)
    parser.add_argument(
        "--ros-args", nargs=argparse.REMAINDER, default=[], metavar="ARG", help="what follows is given to the node"
    )


def run(args: argparse.Namespace) -> int:
    """Look and print; returns the exit code."""
    from rich.console import Console
    from rich.text import Text

    from ..preflight.finding import exit_code, summary, table

    report = _of_bag(args) if args.bag else _of_graph(args)
    console = Console()
    styles = {"OK": "green", "?": "blue", "WARN": "yellow", "FAIL": "bold red"}
    for line in table(report.findings):
        text = Text(line)
        word = line.split(" ", 1)[0]
        text.stylize(styles.get(word, "dim"), 0, len(word) if word in styles else None)
        console.print(text, soft_wrap=True)
    console.print(summary(report.findings))
    if (picture := _draw(report, args.out)) is not None:
        console.print(f"wrote {picture}")
    return exit_code(report.findings)


def _draw(report: Report, out: Path) -> Path | None:
    """Write the picture, where something was seen."""
    observation = report.trial.observation
    if observation is None:
        return None
    from PIL import Image

    from ..preflight.scene_picture import draw_scene

    out.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_scene(observation, report.box, report.trial)).save(out / "preflight.png")
    return out / "preflight.png"


def _of_graph(args: argparse.Namespace) -> Report:
    """Of the live robot."""
    given = [name for name in OF_BAG if getattr(args, name)]
    if given:
        raise ValueError(
            f"--{given[0].replace('_', '-')} is for bags: give a bag, or set the parameter in --params FILE"
        )
    from ..node.environment import prepare_environment

    prepare_environment()
    from ..node.preflight_run import look
    from ..node.start import StartError

    try:
        return look(node_arguments(args), args.seconds)
    except StartError as error:  # of parameters or arguments
        raise ValueError(str(error)) from error


def node_arguments(args: argparse.Namespace) -> list[str]:
    """Arguments of a node, as ``ros2 run`` would give them."""
    words = ["preflight", "--ros-args", "--log-level", "error"]
    if args.params:
        if not args.params.is_file():
            raise ValueError(f"--params {args.params} is no file: give a copy of config/robot.yaml")
        words += ["--params-file", str(args.params)]
    for remap in args.remap:
        name, mark, topic = remap.partition(":=")
        if not mark or not topic:
            raise ValueError(f"{remap!r} is no remap: write '~/image:=/TOPIC'; streams: {ROLES}")
        words += ["-r", remap if name.startswith(("~", "/", "__")) else f"~/{remap}"]
    for parameter, value in (("policy", args.policy), ("device", args.device), ("keep_ratio", args.keep)):
        if value is not None:
            words += ["-p", f"{parameter}:={value}"]
    return words + args.ros_args


def _of_bag(args: argparse.Namespace) -> Report:
    """Of a recording."""
    if args.ros_args:
        raise ValueError("--ros-args is for the live robot: a bag takes --remap, --bag-config and --params")
    if args.params and args.bag_config:
        raise ValueError("--params and --bag-config both describe the robot: give one of the two")
    from ..bags.reader import Bag
    from ..preflight.bag_evidence import evidence_of_bag
    from ..preflight.report import report_of

    args.bag_config = args.bag_config or args.params
    setup = bag_setup(args)
    with Bag(args.bag) as bag:
        subject = _subject(args)
        evidence, parents, (words, given_by) = evidence_of_bag(bag, setup, args.seconds)
    return report_of(evidence, replace(subject, instruction=words, given_by=given_by), parents)


def _subject(args: argparse.Namespace) -> Subject:
    """The policy for a bag: of the arguments, of the node's parameters, or the node's defaults."""
    from ..bags.setup import node_parameters
    from ..policy.runtime import PolicyRuntime
    from ..policy.source import PolicySource
    from ..preflight.report import Subject
    from ..pruning.methods import make_pruner

    parameters = node_parameters(args.bag_config) if args.bag_config else {}
    keep = parameters.get("keep_ratio", 0.5) if args.keep is None else args.keep
    slow_ms = parameters.get("slow_policy_ms", Subject.slow_ms)
    source = PolicySource.of(args.policy or parameters.get("policy", "small"))
    try:
        policy = source.load(args.device or parameters.get("device", "auto"), parameters.get("precision", "auto"))
        pruner = make_pruner(parameters.get("method", "tri_stage"), keep, source.pruning())
        runtime = PolicyRuntime(policy, pruner)
        return Subject(runtime, runtime.warm_up(policy.example(), rounds=1), keep_ratio=keep, slow_ms=slow_ms)
    except ValueError as error:
        return Subject(problem=str(error), keep_ratio=keep, slow_ms=slow_ms)


def main() -> None:
    """Entry point of the executable ``preflight``, for ``ros2 run``."""
    from .main import main as mvla

    sys.exit(mvla(["preflight", *sys.argv[1:]]))
