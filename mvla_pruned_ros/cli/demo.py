"""``mvla demo``: the simulated robot and the policy node, as two processes over DDS."""

from __future__ import annotations

import argparse

from . import options
from .options import add_demo_arguments, add_out_argument, add_policy_arguments, count

SUMMARY = "simulated robot and policy node over DDS: report and GIF"
DESCRIPTION = "Run the policy node against the simulated robot, show what happens, write a report and a GIF."
EPILOG = """\
examples:
  mvla demo                                      every task, 3 episodes each, half of the visual tokens
  mvla demo --keep 0.35 --tasks push             one task, about a third of the tokens
  mvla demo --compare                            each episode without pruning as well, both side by side
  mvla demo --compare --also medium --keep 0.35  and a larger policy: what `make demo` runs
  mvla demo --tasks libero_object/3 libero_spatial      LIBERO's Panda: one task, and ten; its policy is panda
  mvla demo --view spawn                         watched in Rerun (pip install "mvla_pruned_ros[view]")
  mvla demo --real-time-factor 0.5               for a slow computer

It starts `simulator_node` and `policy_node` as two processes that talk over real DDS in a domain of their own, plays
episodes with each task's own instruction, and writes DIR/report.html (opens without a network), DIR/report.json,
DIR/demo.gif (dropped patches dark, kept points as dots) and the two nodes' logs. Physics are Meta-World's, or LIBERO's
where the extra `libero` is installed.

exit code: 0 when all ran, whether the robot succeeded or not (with --require-success: and every episode succeeded,
those that --compare adds left out); 1 when a node failed or an episode did; 2 for impossible arguments.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("--episodes", type=count, default=3, help="episodes of each task (default: %(default)s)")
    add_policy_arguments(parser)
    add_demo_arguments(parser)
    add_out_argument(parser, "out/demo")
    parser.add_argument(
        "--compare", action="store_true", help="play each episode unpruned as well; in the end both side by side"
    )
    parser.add_argument(
        "--also", type=options.policy, metavar="DIR", help="then another policy, on tasks that it learned"
    )
    parser.add_argument(
        "--require-success", action="store_true", help="exit with 1 unless every episode that was pruned succeeded"
    )
    options.add_view_argument(parser)
    parser.add_argument("--no-gif", action="store_true", help="do not draw demo.gif")


def run(args: argparse.Namespace) -> int:
    """Run the demo; returns the exit code."""
    from ..rigs.demo.runner import run_demo
    from ..rigs.demo.session import DemoOptions

    first = DemoOptions.of(args)
    also = (
        DemoOptions.of(argparse.Namespace(**vars(args) | {"policy": args.also, "tasks": None})) if args.also else None
    )
    solved = run_demo(first, episodes=args.episodes, gif=not args.no_gif, compare=args.compare, also=also)
    return int(args.require_success and not solved)
