"""``mvla record``: the demo's topics as a rosbag2."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import add_demo_arguments, add_policy_arguments

EPILOG = """\
examples:
  mvla record --out out/bag --seconds 20             every task in turn
  mvla record --out out/push --tasks push --keep 1   one task, every visual token
  mvla replay out/bag                                the bag played into a policy node
  ros2 bag info out/bag                              it is an ordinary rosbag2 (mcap)

Recorded are image, depth, camera_info, ee_pose, gripper, instruction, commands, pruning, success, diagnostics and
/clock, as the bytes that went over the wire. The logs of the two nodes lie in DIR_logs.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``mvla record``."""
    parser = subparsers.add_parser(
        "record",
        help="record the demo's topics as a rosbag2",
        description="Run simulated robot and policy node as `mvla demo` does and record their topics.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bag; must not exist yet")
    parser.add_argument("--seconds", type=float, default=20.0, help="wall time to record (default: %(default)s)")
    add_policy_arguments(parser)
    add_demo_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Record; returns the exit code."""
    from ..ros.demo_session import DemoOptions
    from ..ros.record_runner import run_record

    return run_record(DemoOptions.of(args), args.seconds)
