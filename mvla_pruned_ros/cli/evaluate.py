"""``mvla evaluate``: success of a policy on a simulated robot, closed loop, without ROS.

Shown beside success: of the episodes that succeeded the median of their steps and the means of the simulated time until
success, of the way of the end effector and of its jerk (third difference of the measured positions, not smoothed).

With --json FILE every finished episode is written at once to FILE with the suffix .episodes.jsonl. The same command
again skips what is there, so a sweep that was stopped goes on where it was. Episodes are known by the policy's weights,
task, method, settings and seed, so different sweeps may share one FILE: rows of the same setting are replaced (unless
the new one has fewer episodes), all others stay, and differences and means are made anew over all rows. After a change
of this package's code, give another FILE. `mvla tables FILE` prints the file as markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shlex
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..configuration.reader import with_words
from ..evaluation.success.lateness import EPISODES, Latency
from ..pruning.methods import BLIND, EVALUATED
from ..pruning.tri_stage.config import TriStageConfig
from ..sim.metaworld.tasks import TASKS
from ..sim.tasks import expand_tasks
from . import options
from .options import add_set_argument

if TYPE_CHECKING:
    from rich.console import Console

    from ..evaluation.success.rollout import Episode
    from ..evaluation.success.sweep import Setting

SUMMARY = "success of a policy on a simulated robot, pruned or not"
EPILOG = """examples:
  mvla evaluate --tasks push --episodes 20 --keep 1.0
  mvla evaluate --tasks push --episodes 100 --method random tri_stage --keep 0.5 0.25 --json out/push.json
  mvla evaluate --tasks faucet-open faucet-close --swap-instructions
  mvla evaluate --tasks libero_object_scattered --policy out/train/mine --method none blind random tri_stage --keep 0.35
  mvla evaluate --tasks push --method none tri_stage --keep 0.35 --latency measured --json out/live.json
  mvla evaluate --method none random tri_stage --keep 0.5 0.25 --episodes 100 --json out/all.json --ray auto
  mvla evaluate --tasks push --method none tri_stage --keep 0.25 --sensors realsense+calibration1
  mvla evaluate --tasks push --keep 0.25 --set stage_semantic=false return_share=0.3
  mvla evaluate --tasks push --method none tri_stage vla_pruner --match-steady 0.25 0.15 --json out/matched.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "--tasks", type=options.task_or_suite, nargs="+", default=list(TASKS), metavar="TASK",
        help=f"of: {options.TASK_NAMES} (default: all of Meta-World)",
    )  # fmt: skip
    parser.add_argument("--episodes", type=options.count, default=20, help="per task and setting (default 20)")
    parser.add_argument(
        "--seed", type=options.seed, default=0, help="first seed; training used 1000000 and up (default 0)"
    )
    spending = parser.add_mutually_exclusive_group()
    spending.add_argument(
        "--keep", type=options.ratio, nargs="+", default=[1.0], help="keep ratios in (0, 1] (default 1.0)"
    )
    spending.add_argument(
        "--match-steady", type=options.ratio, nargs="+", metavar="KEEP",
        help="instead: for each method and task the keep ratio is looked for, on a few episodes of other seeds, at "
        "which it really spends this, as the mean of all calls but the first of an episode (which is full for every "
        "method)",
    )  # fmt: skip
    parser.add_argument(
        "--method", type=options.evaluated_method, nargs="+", default=["tri_stage"],
        help=f"of: {', '.join(EVALUATED)}; {BLIND} sees nothing, a floor to compare with (default tri_stage)",
    )  # fmt: skip
    parser.add_argument(
        "--replan", type=options.count, metavar="N",
        help="steps from one observation to the next (default: the robot's own; Meta-World 4 of 12.5 ms, LIBERO 8 of "
        "50 ms)",
    )  # fmt: skip
    parser.add_argument(
        "--sensors", type=options.sensors, default="", metavar="S",
        help="what the robot is seen through: realsense (depth noise that grows with the distance squared, flying "
        "pixels, holes, range, steps of disparity) or its parts noise, flying, holes, range, quantised; calibration1 "
        "or calibration2 (cameras off by so many cm and degrees), lighting, dark, black (a third of the pictures), "
        "occluded, halfdepth, dropped (a fifth of the frames); put together with +, as in realsense+calibration1 "
        "(default: perfect)",
    )  # fmt: skip
    late = parser.add_mutually_exclusive_group()
    late.add_argument(
        "--latency", type=options.latency, default=Latency(), metavar="L",
        help="simulated time from an observation to its actions: none; measured, what each call really takes on this "
        "machine, after a warm-up, with one thread; 2.0x for a computer half as fast; 150 or 150ms; replay:FILE, what "
        "was measured in the same episodes of an earlier run with --json FILE. Rounded up to whole steps. The robot "
        "moves on meanwhile, and the next observation is taken when the call is over (default none)",
    )  # fmt: skip
    late.add_argument(
        "--delay", type=options.whole(0, 10_000), default=0, metavar="N", help="the same in steps of the robot"
    )
    parser.add_argument(
        "--policy", type=options.policy, default="small", help="policy folder or a shipped one (default small)"
    )
    parser.add_argument(
        "--device",
        default="cpu",
        help="where the policy runs: cpu, cuda, cuda:N or auto (default cpu); on a GPU in bf16",
    )
    parser.add_argument(
        "--swap-instructions",
        action="store_true",
        help="give each task the instruction of its partner; counts whose goal is reached",
    )
    add_set_argument(parser)
    parser.add_argument(
        "--workers", type=options.processes,
        help="processes (default: all cores; with a latency that is measured 1, since processes slow each other "
        "down). Each needs 2 GB with tasks of LIBERO",
    )  # fmt: skip
    parser.add_argument(
        "--ray", type=options.word, metavar="ADDRESS",
        help="run on a Ray cluster (host:port, auto or local) instead of this machine's cores; needs the extra `ray`",
    )  # fmt: skip
    parser.add_argument("--json", type=options.output_file, metavar="FILE", help="add the rows to this file")


def run(args: argparse.Namespace) -> int:
    """Run the sweep, print the table, write the rows."""
    from rich.console import Console

    from ..evaluation.success.row_file import merge, read_rows, write_rows
    from ..evaluation.success.rows import row
    from ..evaluation.success.summary import mean_rows, with_differences
    from ..evaluation.success.tables import overview
    from ..models import policy_folder
    from ..policy.engine.device import resolve_device
    from ..policy.engine.machine import machine
    from ..policy.source import load_config
    from ..reports.terminal import table

    _check(args)
    folder, device = policy_folder(args.policy), str(resolve_device(args.device))
    own = TriStageConfig.of_policy(folder)
    load_config(folder)  # what is wrong with it is told before processes are started
    if args.json and args.json.is_file():
        read_rows(args.json)  # a file that cannot be added to is better found now than hours later
    console = Console()
    settings = _settings(args, folder, device, own)
    settings = _matched(args, settings, console) if args.match_steady else settings
    seeds = range(args.seed, args.seed + args.episodes)
    results = _sweep(args, settings, seeds, console)
    made_by: dict[str, Any] = {"command": _command(args), "machine": machine()}
    new = [dataclasses.replace(row(setting, episodes, own), **made_by) for setting, episodes in results.items()]
    # What is in the file already may be what the new rows are compared with. Read late: another sweep may have written.
    rows = merge(read_rows(args.json) if args.json and args.json.is_file() else [], new)
    asked = {r.identity() for r in new}
    shown = [r for r in with_differences(rows) if r.identity() in asked]
    settings_shown = {r.setting for r in shown}
    means = [m for m in mean_rows(rows) if m.setting in settings_shown]
    drawn = overview(shown, means)
    Console(width=1000).print(
        table(drawn.title, drawn.header, *drawn.groups, left=drawn.left, title_justify="center")
    )  # however narrow the screen, nothing is cut
    if args.json:
        write_rows(args.json, rows)
        console.print(f"rows written to {args.json}; tables for a document: mvla tables {args.json}", soft_wrap=True)
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.set and "tri_stage" not in args.method:
        raise ValueError(f"--set is for method tri_stage; {' and '.join(args.method)} would not read it")


def _settings(args: argparse.Namespace, folder: Path, device: str, own: TriStageConfig) -> list[Setting]:
    """Rows to be. own: tri_stage settings of the policy itself."""
    from ..evaluation.success.sweep import Setting
    from ..policy.fingerprint import policy_fingerprint

    fingerprint = policy_fingerprint(folder)
    pruning = with_words(own, args.set, "pruning parameter")
    latency = Latency(steps=args.delay) if args.delay else args.latency
    settings = [
        Setting(
            task, str(folder), fingerprint, method, {"none": 1.0, BLIND: 0.0}.get(method, keep),
            pruning if method == "tri_stage" else own, latency, args.swap_instructions, device, args.replan,
            args.sensors,
        )
        for task, method, keep in product(expand_tasks(args.tasks), args.method, args.keep)
    ]  # fmt: skip
    return list(dict.fromkeys(settings))  # `none` is one row, whatever the keep ratios


def _matched(args: argparse.Namespace, settings: list[Setting], console: Console) -> list[Setting]:
    """Settings that spend what ``--match-steady`` says; what cannot is named and left out."""
    from ..evaluation.success.match import PROBE_EPISODES, PROBE_SEED, match_keep

    probes = range(PROBE_SEED, PROBE_SEED + PROBE_EPISODES)
    as_they_are = [s for s in settings if s.method in ("none", BLIND)]
    pruned = [s for s in settings if s not in as_they_are]
    for target in args.match_steady:
        console.print(f"looking for keep ratios that spend {target:g}")
        found, left_out = match_keep(pruned, target, lambda trials: _sweep(args, trials, probes, console))
        as_they_are += found
        for line in left_out:
            console.print(f"left out: {line}", soft_wrap=True)
    return as_they_are


def _sweep(
    args: argparse.Namespace, settings: list[Setting], seeds: range, console: Console
) -> dict[Setting, list[Episode]]:
    """Run all episodes behind a progress bar."""
    from ..evaluation.success.episode_log import EpisodeLog
    from ..evaluation.success.sweep import run_sweep
    from ..reports.terminal import ProgressBar

    with contextlib.ExitStack() as stack:
        log = None
        if args.json:
            log = stack.enter_context(EpisodeLog(args.json.with_suffix(EPISODES)))
            console.print(
                f"every finished episode goes to {log.path}; if this is stopped, run it again to go on", soft_wrap=True
            )
        bar = stack.enter_context(ProgressBar("episodes", len(settings) * len(seeds), console=console))

        def show(setting: Setting, _: Episode) -> None:
            bar.step(f"{setting.task} {setting.method} {setting.keep:g}")

        workers = args.workers or (1 if args.latency.factor else os.cpu_count() or 1)
        return run_sweep(settings, seeds, workers, show, log, args.ray)


def _command(args: argparse.Namespace) -> str:
    """What decides the rows, with defaults spelled out, to be run again."""
    words = ["mvla", "evaluate", "--policy", args.policy, "--tasks", *args.tasks, "--episodes", args.episodes]
    words += ["--seed", args.seed, "--method", *args.method]
    words += ["--match-steady", *args.match_steady] if args.match_steady else ["--keep", *args.keep]
    words += ["--replan", args.replan] if args.replan else []
    words += ["--delay", args.delay] if args.delay else []
    words += ["--latency", args.latency.word] if args.latency.word else []
    words += ["--sensors", args.sensors] if args.sensors else []
    words += ["--device", args.device] if args.device != "cpu" else []
    words += ["--swap-instructions"] if args.swap_instructions else []
    words += ["--set", *args.set] if args.set else []
    return shlex.join(str(w) for w in words)
