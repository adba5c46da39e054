"""``mvla faults``: a live policy node, and everything that can go wrong around it."""

from __future__ import annotations

import argparse

from . import options

SUMMARY = "fault injection: what the policy node does when things go wrong"
DESCRIPTION = "Put faults before a live policy node and tell what it does."
EPILOG = """\
examples:
  mvla faults                                  the whole matrix against live nodes, a few minutes
  mvla faults --list                           the names of all faults, and what is expected
  mvla faults --only clock "image silent"      those whose name holds one of these
  mvla faults --policy my_policy --json faults.json
  mvla faults --stop-trials 100                how soon the arm stops when a sensor falls silent
  mvla faults --fuzz 10000 --seed 1            malformed messages over DDS

Nodes are started as processes of their own in a ROS domain of their own; nothing leaves this computer. `observed` is
what was measured. Faults of the policy itself come from one that fails on command and that only this tool starts.

A stop trial: the arm moves, and at a random moment image, depth, pose, gripper or all of them fall silent. The first
zero command has to arrive within max_observation_age_ms and two command periods of the stamp of the last message of
that stream. A timer beside it sees whether the computer itself stood still just then; such trials are told apart.

exit code: 0 when everything was as expected, 1 when not, 2 for impossible arguments.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--only", nargs="+", default=[], metavar="NAME", help="faults whose name holds one of these")
    what.add_argument("--list", action="store_true", help="the faults; runs nothing")
    what.add_argument("--stop-trials", type=options.count, metavar="N", help="stop after sensor loss, N times")
    what.add_argument("--fuzz", type=options.count, metavar="N", help="N malformed messages over all inputs")
    parser.add_argument(
        "--policy", type=options.policy, default="small", help="folder, or a shipped policy (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=options.seed, default=0, help="of moments and malformed messages (default: %(default)s)"
    )
    parser.add_argument("--json", type=options.output_file, metavar="FILE", help="write what was observed")
    parser.add_argument(
        "--domain-id", type=options.domain, metavar="ID", help="ROS domain (default: one of this run's own)"
    )


def run(args: argparse.Namespace) -> int:
    """Run what was asked for; returns the exit code."""
    from ..rigs.faults import tool

    if args.list:
        return tool.list_faults()
    if args.stop_trials is not None:
        return tool.stop_trials(args.policy, args.stop_trials, args.seed, args.domain_id, args.json)
    if args.fuzz is not None:
        return tool.fuzz(args.policy, args.fuzz, args.seed, args.domain_id, args.json)
    return tool.matrix(args.policy, args.only, args.domain_id, args.json)
