"""``mvla replay``: a bag played into a policy node."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import add_policy_arguments

EPILOG = """\
examples:
  mvla replay out/bag                        as it was recorded, half of the visual tokens
  mvla replay out/bag --keep 0.35 --rate 2   other pruning, twice as fast
  mvla replay out/bag --method none          without pruning

Sensor messages, instruction and /clock of a bag of `mvla record` are published as the bytes they were recorded as; what
the policy node commands and reports is collected. Nothing moves: the commands go nowhere.

exit code: 0 when commands came out, 1 when a node failed or none came, 2 for impossible arguments.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``mvla replay``."""
    parser = subparsers.add_parser(
        "replay",
        help="play a bag into a policy node",
        description="Play the sensor topics of a recorded bag into a policy node and report what it does.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bag", type=Path, metavar="BAG", help="folder of a rosbag2 made by `mvla record`")
    add_policy_arguments(parser)
    parser.add_argument("--rate", type=float, default=1.0, help="speed of playing (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("out/replay"), metavar="DIR", help="for report.json (default: %(default)s)"
    )
    parser.add_argument("--domain-id", type=int, metavar="N", help="ROS_DOMAIN_ID (default: one of this run's own)")


def run(args: argparse.Namespace) -> int:
    """Replay; returns the exit code."""
    from ..ros.demo_session import DemoOptions
    from ..ros.replay_runner import run_replay

    options = DemoOptions(
        out=args.out,
        keep_ratio=args.keep,
        method=args.method,
        policy=Path(args.policy) if args.policy else None,
        device=args.device,
        domain_id=args.domain_id,
    )
    return run_replay(args.bag, options, args.rate)
