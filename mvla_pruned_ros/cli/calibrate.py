"""``mvla calibrate``: fit the parameters of tri-stage pruning to a policy, on recorded bags or on simulated tasks.

The unpruned policy answers to recorded observations; then every setting is judged by how far pruning moves those
actions. The file goes into the policy folder, where evaluation and the node find it.

With --bag no simulator is needed, and the policy may be of any robot. Bags are read as by `mvla replay`; of long ones
stretches of consecutive frames are taken, evenly over the bag. Without --bag the policy drives a simulated robot.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..pruning.tri_stage.config import CALIBRATION_FILE
from ..sim.metaworld.tasks import CALIBRATION_TASKS
from ..sim.tasks import expand_tasks
from . import options
from .bag_options import BAG_OPTIONS, add_bag_arguments, bag_setup, print_unused

if TYPE_CHECKING:
    from rich.console import Console

    from ..bags.setup import BagSetup
    from ..evaluation.calibration.descent import Grid
    from ..evaluation.calibration.fit import Effort, Fit
    from ..evaluation.calibration.recorded import RecordedEpisode
    from ..evaluation.calibration.stretches import BagStretch

EPISODES, SEED, FRAMES = 5, 500_000, 400
SUMMARY = "fit the pruning parameters to a policy"
EPILOG = f"""examples:
  mvla calibrate                                        the shipped policy, on {", ".join(CALIBRATION_TASKS)}
  mvla calibrate --policy out/train/mine --tasks push --keep 0.35 --out out/train/mine/{CALIBRATION_FILE}
  mvla calibrate --policy out/train/mine --bag bags/monday bags/tuesday --held-out-bag bags/wednesday
      --bag-config my_robot.yaml --out out/train/mine/{CALIBRATION_FILE}
  mvla calibrate --held-out push                        then judge what was fitted on push, once

What is held out stays out of the fit. It is judged once, with the defaults, with what was fitted, and with a salience
schedule computed once from the recordings, which looks at no live evidence.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "--policy", type=options.policy, default="small", help="policy folder or a shipped one (default small)"
    )
    parser.add_argument(
        "--keep", type=options.ratio, nargs="+", default=[0.35, 0.2], help="keep ratios to fit at (default 0.35 0.2)"
    )
    parser.add_argument(
        "--rounds", type=options.count, default=2, help="at most so many rounds over all parameters (default 2)"
    )
    parser.add_argument(
        "--workers", type=options.processes, default=os.cpu_count() or 1, help="processes (default: all cores)"
    )
    parser.add_argument(
        "--out", type=options.output_file, default=f"out/{CALIBRATION_FILE}", metavar="FILE",
        help=f"default out/{CALIBRATION_FILE}; the file of that name in a policy folder is the one that is used",
    )  # fmt: skip
    bags = parser.add_argument_group("on recorded bags")
    bags.add_argument("--bag", nargs="+", type=Path, metavar="BAG", help="fit to these bags instead of to tasks")
    bags.add_argument(
        "--held-out-bag", nargs="+", type=Path, metavar="BAG", help="bags to judge the outcome on, not fitted to"
    )
    bags.add_argument(
        "--most-hz", type=options.number(0, 1000), metavar="HZ",
        help="frames per second looked at, as many as the policy is called live (default: all)",
    )  # fmt: skip
    bags.add_argument(
        "--frames", type=options.count, metavar="N",
        help=f"so many frames are fitted to at most, shared out among the bags; as many held out (default {FRAMES})",
    )  # fmt: skip
    add_bag_arguments(parser)
    tasks = parser.add_argument_group("in the simulator")
    tasks.add_argument(
        "--tasks", type=options.task_or_suite, nargs="+", metavar="TASK",
        help=f"of: {options.TASK_NAMES} (default: {' '.join(CALIBRATION_TASKS)})",
    )  # fmt: skip
    tasks.add_argument("--episodes", type=options.count, help=f"recorded per task (default {EPISODES})")
    tasks.add_argument("--seed", type=options.seed, help=f"first seed; evaluation uses 0 and up (default {SEED})")
    tasks.add_argument(
        "--held-out", type=options.task_or_suite, nargs="+", metavar="TASK",
        help="tasks to judge the outcome on, not fitted to",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Fit, print the steps, write the file."""
    from rich.console import Console

    from ..configuration.files import write_json
    from ..evaluation.calibration.fit import Effort, mean_error
    from ..models import policy_folder
    from ..policy.source import load_config

    _check(args)
    console, folder = Console(), policy_folder(args.policy)
    load_config(folder)  # what is wrong with it is told before processes are started
    effort = Effort(tuple(args.keep), args.rounds, args.workers)
    if args.bag:
        setup = bag_setup(args)
        todo = BagFit(args.policy, args.bag, args.held_out_bag or [], setup, args.most_hz or 0.0, args.frames or FRAMES)
        outcome = fit_to_bags(todo, effort, args.out, console)
    else:
        outcome, about = _fit_to_tasks(args, folder, effort, console)
        write_json(args.out, outcome.to_json({"policy": args.policy, **about}, {}))
    what = "bags" if args.bag else "tasks"
    for words, figures in ((f"calibration {what}", outcome.fitted), (f"held-out {what}", outcome.held_out)):
        for name, errors in figures.items():
            console.print(f"{words}, {name}: {mean_error(errors):.4f}")
    before, after = (mean_error(outcome.fitted[name]) for name in ("defaults", "calibrated"))
    console.print(f"{before:.4f} -> {after:.4f}; written to {args.out}")
    return 0


def _check(args: argparse.Namespace) -> None:
    of_bags, of_tasks = ("held_out_bag", "most_hz", "frames", *BAG_OPTIONS), ("tasks", "episodes", "seed", "held_out")
    why = "is for tasks of the simulator and does not go with --bag" if args.bag else "is for --bag, and none was given"
    for name in of_tasks if args.bag else of_bags:
        if getattr(args, name) not in (None, []):
            raise ValueError(f"--{name.replace('_', '-')} {why}")
    for fitted, held_out in (
        (args.bag or [], args.held_out_bag or []),
        (_tasks(args), expand_tasks(args.held_out or [])),
    ):
        if both := {str(one) for one in fitted} & {str(one) for one in held_out}:
            kind = "bag" if args.bag else "task"
            raise ValueError(f"{', '.join(sorted(both))}: a {kind} that is fitted to cannot be held out")
    if 1 in args.keep:
        raise ValueError("--keep 1 prunes nothing, so there is nothing to fit: give ratios below 1")


def _tasks(args: argparse.Namespace) -> list[str]:
    return expand_tasks(args.tasks or list(CALIBRATION_TASKS))


def _fit_to_tasks(
    args: argparse.Namespace, folder: Path, effort: Effort, console: Console
) -> tuple[Fit, dict[str, Any]]:
    """The fit, and what it was made to."""
    from ..evaluation.calibration.descent import GRID
    from ..evaluation.calibration.simulated import SimulatedEpisode

    count, first = args.episodes or EPISODES, SEED if args.seed is None else args.seed

    def episodes(tasks: Sequence[str]) -> list[RecordedEpisode]:
        return [SimulatedEpisode(task, seed) for task in tasks for seed in range(first, first + count)]

    tasks, held_out = _tasks(args), expand_tasks(args.held_out or [])
    console.print(f"recording {count} episodes of {', '.join([*tasks, *held_out])}")
    outcome = _fit(folder, episodes(tasks), episodes(held_out), effort, GRID, (console, console))
    return outcome, {"tasks": tasks, "episodes": count, "first_seed": first, "keep_ratios": list(effort.keep_ratios)}


@dataclass(frozen=True)
class BagFit:
    """What is fitted to.

    Attributes:
        policy: folder or shipped name. most_hz, frames: see the options. most_looked_at: of each bag no more frames are
            read; None reads all.
    """

    policy: str
    bags: Sequence[Path]
    held_out: Sequence[Path]
    setup: BagSetup
    most_hz: float
    frames: int
    most_looked_at: int | None = None


def fit_to_bags(todo: BagFit, effort: Effort, out: Path, console: Console, words: Console | None = None) -> Fit:
    """Fit to bags and write the file.

    Args:
        console: for progress bars. words: for what is said; the same if it is not given.

    Raises:
        ValueError: a bag cannot be used, or the policy cannot be fitted to it.
    """
    from ..bags.observations import BagFrames
    from ..bags.reader import Bag
    from ..configuration.files import write_json
    from ..evaluation.calibration.descent import BAG_GRID
    from ..models import policy_folder

    for path in (*todo.bags, *todo.held_out):  # what is wrong with one is told before any is read
        with Bag(path) as bag:
            BagFrames(bag, todo.setup)
    with tempfile.TemporaryDirectory(prefix="mvla_calibrate_") as folder:
        consoles = console, words or console
        episodes, reports = _stretches(todo, todo.bags, Path(folder), consoles)
        held_out, held_out_reports = _stretches(todo, todo.held_out, Path(folder), consoles, ", held out")
        outcome = _fit(policy_folder(todo.policy), episodes, held_out, effort, BAG_GRID, consoles)
    about = {
        "policy": todo.policy, "bags": reports, "most_hz": todo.most_hz, "keep_ratios": list(effort.keep_ratios),
    }  # fmt: skip
    write_json(out, outcome.to_json(about, {"bags": held_out_reports} if held_out else {}))
    return outcome


def _stretches(
    todo: BagFit, bags: Sequence[Path], folder: Path, consoles: tuple[Console, Console], more: str = ""
) -> tuple[list[BagStretch], list[dict[str, Any]]]:
    """What is taken of each bag, and what was left out."""
    from ..evaluation.calibration.stretches import bag_stretches
    from ..policy.source import load_policy
    from ..reports.terminal import ProgressBar

    console, words = consoles
    policy = load_policy(todo.policy) if bags else None
    found: list[BagStretch] = []
    reports = []
    for path in bags:
        assert policy is not None
        with ProgressBar(f"reading {path}{more}", console=console) as bar:
            stretches, report = bag_stretches(
                path, todo.setup, policy, folder / str(len(list(folder.iterdir()))), todo.most_hz,
                todo.frames // len(bags), bar.show, todo.most_looked_at,
            )  # fmt: skip
        taken = f"{path}{more}: {report['frames']} of {report['of']} frames"
        left_out = report["frames"] < report["of"]
        words.print(f"{taken}, in {report['stretches']} stretches" + (" (--frames takes more)" if left_out else ""))
        print_unused(words, report["not_used"], report["drops"])
        found += stretches
        reports.append(report)
    return found, reports


def _fit(
    folder: Path, episodes: Sequence[RecordedEpisode], held_out: Sequence[RecordedEpisode], effort: Effort,
    grid: Grid, consoles: tuple[Console, Console],
) -> Fit:  # fmt: skip
    from ..evaluation.calibration.descent import grid_of
    from ..evaluation.calibration.fit import fit
    from ..policy.source import load_config
    from ..reports.terminal import ProgressBar

    console, words = consoles
    scaled = grid_of(load_config(folder).token_spacing, grid)
    with ProgressBar("settings, at most", effort.most_settings(scaled), console=console) as bar:
        return fit(folder, episodes, held_out, effort, scaled, words.print, bar.step)
