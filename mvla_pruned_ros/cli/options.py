"""Arguments that several subcommands share. Light imports only: help must come at once."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..pruning.methods import METHODS
from ..sim.tasks import DEMO_TASKS, TASKS


def add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    """--keep, --method, --policy, --device."""
    parser.add_argument(
        "--keep",
        type=float,
        default=0.5,
        metavar="RATIO",
        help="share of the visual tokens (image and points) that stay, (0, 1] (default: %(default)s)",
    )
    parser.add_argument(
        "--method", default="tri_stage", help=f"pruning rule: {', '.join(METHODS)} (default: %(default)s)"
    )
    parser.add_argument(
        "--policy",
        metavar="DIR",
        help="policy folder, or package.module:factory, code that makes one (default: the policy that is shipped)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="where the policy runs: cpu, cuda, cuda:N, or auto (default: cuda if there is one)",
    )


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    """What sets the simulated robot up: --tasks, --seed, --real-time-factor, --domain-id, --max-steps."""
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help=f"tasks in this order (default: {' '.join(DEMO_TASKS)}; of: {', '.join(TASKS)})",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first episode of each task, then + 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--real-time-factor",
        type=float,
        metavar="X",
        help="simulated over wall time, 0 for as fast as possible (default: fits two CPU cores)",
    )
    parser.add_argument(
        "--max-steps",
        type=int,
        default=0,
        metavar="N",
        help="end episodes after N steps of 12.5 ms (default: the task's)",
    )
    parser.add_argument(
        "--domain-id", type=int, metavar="N", help="ROS_DOMAIN_ID of the nodes (default: one of this run's own)"
    )


def add_set_argument(parser: argparse.ArgumentParser) -> None:
    """--set."""
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="tri_stage parameters that differ from the policy's own (its pruning.json, or the defaults)",
    )


def add_out_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """--out, a folder."""
    parser.add_argument("--out", type=Path, default=Path(default), metavar="DIR", help="default: %(default)s")
