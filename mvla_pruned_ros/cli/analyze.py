"""``mvla analyze``: which visual tokens matter to a policy, and when, on a bag or a simulated episode.

The salience analysis of arXiv 2604.09244: 2D against 3D over time, inside robot, object and background, what 3D adds to
2D, and how alike neighbouring calls are. The policy is not pruned, so that every token is seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..sim.libero.tasks import SUITES
from ..sim.metaworld.tasks import TASKS
from . import options
from .bag_options import add_bag_arguments, bag_setup, print_unused
from .options import add_out_argument

if TYPE_CHECKING:
    from ..analysis.recording import Call
    from ..bags.observations import BagFrames
    from ..policy.base import Policy
    from ..reports.terminal import ProgressBar

SUMMARY = "2D and 3D salience of a recording: page and numbers"
EPILOG = """examples:
  mvla analyze --task push --seed 3                     the shipped policy drives the simulated robot
  mvla record --out out/bag --tasks push && mvla analyze out/bag
  mvla analyze my_bag --policy out/train/mine --remap image:=/camera/color/image_raw --bag-config my_camera.yaml
  mvla analyze --task push --calls 10                   a quick look at the beginning

DIR/analysis.html holds plots, pictures and the comparison with the paper and opens without a network; DIR/analysis.json
holds all numbers. Topics may have any names (--remap); reading bags needs no ROS.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("bag", nargs="?", type=Path, metavar="BAG", help="folder of a rosbag2")
    parser.add_argument(
        "--task", type=options.task, metavar="TASK",
        help="instead of a bag: a simulated episode of " + ", ".join([*TASKS, *(f"{s}/0 to /9" for s in SUITES)]),
    )  # fmt: skip
    parser.add_argument("--seed", type=options.seed, metavar="N", help="of the simulated episode (default 0)")
    parser.add_argument(
        "--policy", type=options.policy, default="small", help="a folder, a shipped one, or package.module:factory"
    )
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:N, or auto for cuda if there is one (default auto)"
    )
    parser.add_argument(
        "--calls", type=options.count, metavar="N", help="stop after N policy calls (default: all there are)"
    )
    add_out_argument(parser, "out/analysis")
    add_bag_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Record the calls, analyse them, write page and numbers, print the table."""
    _check(args)
    from rich.console import Console

    from ..analysis.page import draw_page
    from ..analysis.report import analyse, sets_of
    from ..bags.reader import Bag
    from ..configuration.files import write_json
    from ..policy.source import PolicySource
    from ..reports.terminal import ProgressBar

    model, console = PolicySource.of(args.policy), Console()
    config = model.pruning()
    with ProgressBar("policy calls", console=console) as bar:
        policy = model.load(args.device)
        if args.bag:
            with Bag(args.bag) as bag:
                name, frames, source = _bag(args, bag, policy)
                calls = _collect(source, frames.images, args.calls, bar)
                not_used = frames.unused.report(frames.images)
            if not calls:
                raise ValueError(f"no frame of {name} could be acted on: {frames.unused.sentence(frames.images)}")
        else:
            name, total, source = _episode(args, policy)
            calls, not_used = _collect(source, total, args.calls, bar), None
    numbers = {
        "recording": name, "policy": args.policy, "device": policy.device_name, "not_used": not_used,
        **analyse(calls, config),
    }  # fmt: skip
    write_json(args.out / "analysis.json", numbers, allow_nan=False)
    page = args.out / "analysis.html"
    page.write_text(draw_page(numbers, calls, [sets_of(call, config) for call in calls]), encoding="utf-8")
    console.print(_table(numbers))
    console.print(_sets_table(numbers))
    if not_used is not None:
        print_unused(console, not_used, dict(frames.drops))
    console.print(f"wrote {page} (open it in a browser) and {args.out / 'analysis.json'}")
    return 0


def _check(args: argparse.Namespace) -> None:
    if (args.bag is None) == (args.task is None):
        given = "neither" if args.bag is None else f"both {args.bag} and --task {args.task}"
        raise ValueError(f"give either a bag or --task, got {given}")
    if args.task is None and args.seed is not None:
        raise ValueError(
            f"--seed {args.seed} is for a simulated episode, but the bag {args.bag} was given: leave the seed out"
        )


def _bag(args: argparse.Namespace, bag: Any, policy: Policy) -> tuple[str, BagFrames, Iterator[Call]]:
    """What it is called, its frames, and the calls."""
    from ..analysis.sources import bag_calls
    from ..bags.observations import BagFrames

    frames = BagFrames(bag, bag_setup(args))
    return str(bag.folder), frames, bag_calls(frames, policy)


def _episode(args: argparse.Namespace, policy: Policy) -> tuple[str, int, Iterator[Call]]:
    from ..analysis.sources import simulated_calls
    from ..sim.robot import robot_of

    robot, seed = robot_of(args.task), args.seed or 0
    most = -(-robot.task.max_steps // robot.replan_steps)
    return f"{args.task}, seed {seed}", most, simulated_calls(robot, policy, seed)


def _collect(source: Iterator[Call], total: int, limit: int | None, bar: ProgressBar) -> list[Call]:
    """The first ``limit`` calls, or all, with the progress shown."""
    bar.show(0, total if limit is None else min(limit, total))
    calls = []
    for call in islice(source, limit):
        calls.append(call)
        bar.step()
    bar.show(len(calls), len(calls))  # the robot was there before its time ran out
    return calls


def _table(numbers: dict[str, Any]) -> Any:
    from ..analysis.page import share_rows
    from ..reports.terminal import table

    paper, measured = share_rows(numbers)
    of_paper = [(f"paper, {task}", *cells) for task, *cells in paper]
    title = f"{numbers['recording']}: {numbers['calls']} calls"
    return table(title, ("salience", "2D, %", "3D, %", "std"), of_paper, measured)


def _sets_table(numbers: dict[str, Any]) -> Any:
    from rich.table import Table

    from ..analysis.page import set_rows

    table = Table(title="inside the semantic sets", title_justify="left")
    for name in ("set", "2D tokens", "3D tokens", "paper", "by norm", "by attention"):
        table.add_column(name, justify="right" if "tokens" in name else "left")
    for row in set_rows(numbers):
        table.add_row(*row)
    return table
