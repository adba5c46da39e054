"""``mvla record``: the demo's topics as a rosbag2."""

from __future__ import annotations

import argparse

from . import options
from .options import add_demo_arguments, add_policy_arguments

SUMMARY = "record the demo's topics as a rosbag2"
DESCRIPTION = "Run simulated robot and policy node as `mvla demo` does and record their topics."
EPILOG = """\
examples:
  mvla record --out out/bag --seconds 20             every task in turn
  mvla record --out out/push --tasks push --keep 1   one task, every visual token
  mvla replay out/bag --follow                       the node's calls made again: are the actions the same?
  mvla record --out out/panda --expert --tasks libero_object_scattered      LIBERO's Panda, ten tasks
  mvla record --out out/experts --expert --tasks button-press-topdown --episodes 100 --seed 1000000
  ros2 bag info out/bag                              it is an ordinary rosbag2 (mcap)

Recorded are image, depth and camera_info of each camera, ee_pose, gripper, joints where the robot has some,
instruction, commands, pruning, call, success, diagnostics and /clock, as the bytes that went over the wire. The logs of
the two nodes lie in DIR_logs. Time counts from the beginning of the first episode.

With --expert the scripted experts demonstrate instead of the policy, for `mvla train --bag`: without ROS, as fast as
the simulator is, with simulated stamps; sensors, instruction and the expert's commands are recorded. Episodes that are
not solved are left out.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "--out", type=options.new_folder, required=True, metavar="DIR", help="the bag; must not exist yet"
    )
    parser.add_argument("--seconds", type=options.number(0.1, 86400), help="wall time to record (default: 20)")
    parser.add_argument("--expert", action="store_true", help="record demonstrations of the scripted experts, no ROS")
    parser.add_argument("--episodes", type=options.count, metavar="N", help="with --expert: of each task (default: 10)")
    parser.add_argument(
        "--noisy", action="store_true",
        help="with --expert: push the arm about in episodes of odd seed, as for the shipped policy; the commands that "
        "are recorded are the expert's",
    )  # fmt: skip
    parser.add_argument(
        "--remap", nargs="+", default=[], metavar="ROLE:=TOPIC", help="with --expert: other names of topics"
    )
    add_policy_arguments(parser)
    add_demo_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Record; returns the exit code."""
    if args.expert:
        return _record_experts(args)
    if args.episodes is not None or args.noisy or args.remap:
        raise ValueError("--episodes, --noisy and --remap are for --expert, which was not given")
    from ..rigs.demo.record import run_record
    from ..rigs.demo.session import DemoOptions

    return run_record(DemoOptions.of(args), 20.0 if args.seconds is None else args.seconds)


def _record_experts(args: argparse.Namespace) -> int:
    from rich.console import Console

    from ..bags.setup import BagSetup
    from ..reports.terminal import ProgressBar
    from ..sim.metaworld.tasks import DEMO_TASKS
    from ..sim.tasks import expand_tasks
    from ..training.expert import record_bag

    tasks, episodes = expand_tasks(args.tasks or list(DEMO_TASKS)), 10 if args.episodes is None else args.episodes
    if args.seconds is not None:
        raise ValueError(f"--seconds {args.seconds:g} does not go with --expert: give --episodes")
    scenes = [(task, seed) for task in tasks for seed in range(args.seed, args.seed + episodes)]
    console, failed = Console(), []
    with ProgressBar("episodes", len(scenes), console=console) as bar:

        def on_episode(task: str, seed: int, solved: bool) -> None:
            bar.step()
            if not solved:
                failed.append(f"{task} {seed}")

        topics = BagSetup().with_remaps(args.remap).topics
        counts = record_bag(args.out, scenes, topics, noisy=args.noisy, on_episode=on_episode)
    for topic, count in counts.items():
        console.print(f"  {topic}  {count}")
    console.print(f"{len(scenes) - len(failed)} episodes in {args.out}; not solved: {', '.join(failed) or 'none'}")
    return 0
