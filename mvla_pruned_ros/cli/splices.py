"""``mvla splices``: how far the commanded motion jumps where action chunks meet, and what blending costs.

Each seed is driven twice in closed loop, with chunks followed as they are (switch) and with the command led from one to
the next by steps no larger than the policy's own (blend, the node's default). Jumps and steps are shown in m/s; those
of turns, in rad/s, are in the file.
"""

from __future__ import annotations

import argparse
from itertools import product
from typing import Any

from ..sim.tasks import expand_tasks
from . import options
from .options import add_out_argument, add_policy_arguments

SUMMARY = "jumps of the command where action chunks meet: numbers and plot"
EPILOG = """examples:
  mvla splices --tasks push --episodes 1                    numbers and a plot of one episode
  mvla splices --tasks push --delay 2 4 8 --episodes 20     what the age of observations changes

DIR/splices.json holds one row for each episode, DIR/splices.svg the commands of the first seed of the first task.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "--tasks", type=options.task_or_suite, nargs="+", default=["button-press-topdown", "push"], metavar="TASK",
        help=f"of: {options.TASK_NAMES} (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--episodes", type=options.count, default=5, metavar="N", help="of each task (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=options.seed, default=0, help="of the first episode, then + 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--delay", type=options.whole(0, 10_000), nargs="+", default=[4], metavar="STEPS",
        help="steps of the robot between an observation and its chunk's arrival (default: %(default)s)",
    )  # fmt: skip
    add_out_argument(parser, "out/splices")
    add_policy_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Drive the episodes, print the table, write rows and plot."""
    from rich.console import Console
    from rich.progress import track

    from ..configuration.files import write_json
    from ..evaluation.splices.measure import MODES, spliced_episode, summary
    from ..evaluation.splices.plot import splice_svg
    from ..models import policy_folder
    from ..policy.engine.machine import machine
    from ..policy.runtime import PolicyRuntime
    from ..policy.source import load_policy
    from ..pruning.methods import make_pruner
    from ..pruning.tri_stage.config import TriStageConfig
    from ..sim.robot import robot_of

    folder = policy_folder(args.policy or "small")
    policy, config = load_policy(folder, args.device), TriStageConfig.of_policy(folder)
    seeds = range(args.seed, args.seed + args.episodes)
    wanted = list(product(expand_tasks(args.tasks), args.delay, seeds, MODES))
    console = Console()
    episodes = [
        spliced_episode(
            robot_of(task), PolicyRuntime(policy, make_pruner(args.method, args.keep, config)), seed,
            delay=delay, mode=mode,
        )
        for task, delay, seed, mode in track(wanted, "episodes", console=console)
    ]  # fmt: skip
    rows = [episode.row() for episode in episodes]
    groups = summary(rows)
    console.print(_table(groups))
    about = {"policy": folder.name, "method": args.method, "keep_ratio": args.keep, "machine": machine()}
    numbers, plot = args.out / "splices.json", args.out / "splices.svg"
    write_json(numbers, {**about, "summary": groups, "episodes": rows})
    plot.write_text(splice_svg(episodes[: len(MODES)]))
    console.print(f"wrote {numbers} and {plot}")
    return 0


def _table(groups: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(
        caption="jump: largest at a splice, own step: largest between consecutive actions of a chunk, m/s; axis: the "
        "worst quotient of the two along one axis; within: episodes without a larger jump than own step (Euclidean)"
    )
    columns = {
        "task": "task",
        "delay": "delay",
        "mode": "splice",
        "successes": "success",
        "steps": "steps",
        "largest_jump": "jump",
        "largest_own_step": "own step",
        "worst_axis": "axis",
        "within_own_steps": "within",
    }
    for name in columns.values():
        table.add_column(name, justify="left" if name in ("task", "splice") else "right")
    for group in groups:
        of = f" / {group['episodes']}"
        cells = {
            **group,
            "successes": f"{group['successes']}{of}",
            "within_own_steps": f"{group['within_own_steps']}{of}",
        }
        table.add_row(*(f"{v:.3f}" if isinstance(v := cells[key], float) else str(v) for key in columns))
    return table
