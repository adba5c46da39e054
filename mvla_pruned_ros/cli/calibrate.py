"""``mvla calibrate``: fit the parameters of tri-stage pruning to a policy, on named tasks.

The policy drives the simulated robot unpruned; then every setting is judged by how far pruning moves the actions of
those very observations. The file goes into the policy folder, where evaluation and the node find it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..pruning.tri_stage.config import CALIBRATION_FILE, TriStageConfig
from ..sim.tasks import CALIBRATION_TASKS, TASKS
from . import options

if TYPE_CHECKING:
    from rich.console import Console

    from ..evaluation.calibration.sweep import CalibrationSweep

SUMMARY = "fit the pruning parameters to a policy"
EPILOG = f"""examples:
  mvla calibrate                                        the shipped policy, on {", ".join(CALIBRATION_TASKS)}
  mvla calibrate --policy out/train/mine --tasks push --keep 0.35 --out out/train/mine/{CALIBRATION_FILE}
  mvla calibrate --held-out push                        then judge what was fitted on push, once

--held-out tasks stay out of the fit. They are judged once, with the defaults, with what was fitted, and with a salience
schedule computed once from the recordings, which looks at no live evidence.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "--policy", type=options.policy, default="small", help="policy folder or a shipped one (default small)"
    )
    parser.add_argument(
        "--tasks", type=options.task, nargs="+", default=list(CALIBRATION_TASKS), metavar="TASK",
        help=f"of: {', '.join(TASKS)}",
    )  # fmt: skip
    parser.add_argument("--episodes", type=options.count, default=5, help="recorded per task (default 5)")
    parser.add_argument(
        "--seed", type=options.seed, default=500_000, help="first seed; evaluation uses 0 and up (default 500000)"
    )
    parser.add_argument(
        "--keep", type=options.ratio, nargs="+", default=[0.35, 0.2], help="keep ratios to fit at (default 0.35 0.2)"
    )
    parser.add_argument(
        "--rounds", type=options.count, default=2, help="at most so many rounds over all parameters (default 2)"
    )
    parser.add_argument(
        "--held-out", type=options.task, nargs="+", default=[], metavar="TASK",
        help="tasks to judge the outcome on, not fitted to",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=options.processes, default=os.cpu_count() or 1, help="processes (default: all cores)"
    )
    parser.add_argument(
        "--out", type=options.output_file, default=f"out/{CALIBRATION_FILE}", metavar="FILE",
        help=f"default out/{CALIBRATION_FILE}; the file of that name in a policy folder is the one that is used",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Fit, print the steps, write the file."""
    from rich.console import Console

    from ..configuration.files import write_json
    from ..models import policy_folder
    from ..policy.source import load_config

    _check(args)
    console, folder = Console(), policy_folder(args.policy)
    load_config(folder)  # what is wrong with it is told before processes are started
    with _recorded(args, args.tasks, folder, console) as sweep:
        before = sweep.relative_errors("tri_stage", TriStageConfig())
        console.print(f"defaults: {_mean(before):.4f} of the action error of random pruning")
        best, error = sweep.fit(
            TriStageConfig(), args.rounds,
            lambda name, config, value: console.print(f"  {name} = {getattr(config, name)}: {value:.4f}"),
        )  # fmt: skip
        schedule = sweep.schedule
        fitted = {
            "defaults": before,
            "calibrated": sweep.relative_errors("tri_stage", best),
            "schedule": sweep.relative_errors("schedule", schedule),
        }
    held_out: dict[str, dict[str, float]] = {}
    if args.held_out:
        with _recorded(args, args.held_out, folder, console, ", held out") as sweep:
            held_out = {
                "defaults": sweep.relative_errors("tri_stage", TriStageConfig()),
                "calibrated": sweep.relative_errors("tri_stage", best),
                "schedule": sweep.relative_errors("schedule", schedule),
                "schedule of their own": sweep.relative_errors("schedule", sweep.schedule),
            }
    about = {
        "policy": args.policy,
        "tasks": args.tasks,
        "episodes": args.episodes,
        "first_seed": args.seed,
        "keep_ratios": args.keep,
        "measure": "mean absolute change of the next 8 actions, relative to random pruning at the same keep ratio",
    }
    entry = {"tri_stage": dataclasses.asdict(best), "fitted": {**about, **fitted}, "held_out": held_out}
    write_json(args.out, entry)
    for words, figures in (("calibration tasks", fitted), ("held-out tasks", held_out)):
        for name, errors in figures.items():
            console.print(f"{words}, {name}: {_mean(errors):.4f}")
    console.print(f"{_mean(before):.4f} -> {error:.4f}; written to {args.out}")
    return 0


def _check(args: argparse.Namespace) -> None:
    if both := set(args.tasks) & set(args.held_out):
        raise ValueError(f"{', '.join(sorted(both))}: a task that is fitted to cannot be held out")
    if 1 in args.keep:
        raise ValueError("--keep 1 prunes nothing, so there is nothing to fit: give ratios below 1")


@contextlib.contextmanager
def _recorded(
    args: argparse.Namespace, tasks: list[str], folder: Path, console: Console, more: str = ""
) -> Iterator[CalibrationSweep]:
    """A sweep over tasks whose episodes are recorded."""
    from ..evaluation.calibration.sweep import CalibrationSweep

    console.print(f"recording {args.episodes} episodes of {', '.join(tasks)}{more}")
    with CalibrationSweep(folder, tasks, args.seed, args.episodes, tuple(args.keep), args.workers) as sweep:
        sweep.record()
        yield sweep


def _mean(errors: dict[str, float]) -> float:
    return sum(errors.values()) / len(errors)
