"""``mvla soak``: the policy node for hours, with what goes wrong only then.

A made-up robot publishes 640 x 480 colour at 30 Hz, clouds of 307 200 points at 10 Hz, pose and gripper; the policy
node answers over real DDS, and this process listens. Reported: growth of the node's memory, threads and open files; the
share of command deadlines that were met (a command is due within two periods of `command_rate_hz` after the one
before); stops in the midst of motion; drops by cause; policy calls.

A bare process that only sleeps and wakes is run beside them. Deadlines that were missed while it could not run either
are reported apart: then the machine stood still, whatever the node does. Both shares are shown.
"""

from __future__ import annotations

import argparse

from .options import add_policy_arguments, add_view_argument, number, output_file

SUMMARY = "the policy node for hours: memory, deadlines, stops"
EPILOG = """\
examples:
  mvla soak                                       half an hour, into out/soak
  mvla soak --minutes 2 --keep 0.25               a short one
  mvla soak --minutes 5 --view out/soak/soak.rrd  what a view costs the node
  mvla soak --minutes 600 --json night.json --policy out/train/mine --instruction "open the drawer"

Beside FILE it writes the page (.html: memory and command intervals over time), the logs of the nodes, and stalls.txt
and late.txt: when the machine stood still and when a sensor was late.

exit code: 0 when it ran to the end, 1 when a node failed, 2 for impossible arguments.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("--minutes", type=number(0.1, 100_000), default=30.0, help="how long (default: %(default)s)")
    parser.add_argument(
        "--json", type=output_file, default="out/soak/soak.json", metavar="FILE", help="report (default: %(default)s)"
    )
    parser.add_argument(
        "--command-rate", type=number(1, 1000, "Hz"), default=80.0, metavar="HZ",
        help="command_rate_hz (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--instruction", default="push the puck to the goal", metavar="WORDS", help="what to do (default: %(default)s)"
    )
    add_view_argument(parser)
    add_policy_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Soak; returns the exit code."""
    from ..rigs.soak.runner import SoakOptions, run_soak

    return run_soak(
        SoakOptions(
            json=args.json,
            minutes=args.minutes,
            command_rate_hz=args.command_rate,
            keep_ratio=args.keep,
            method=args.method,
            policy=args.policy or "small",
            device=args.device,
            instruction=args.instruction,
            view=args.view or "",
        )
    )
