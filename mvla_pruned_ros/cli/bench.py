"""``mvla bench``: how long policy calls take, and what of it goes into choosing tokens.

All variants run interleaved in one process on the same made-up scene: `upstream` encodes and runs every token again at
each denoising step; `cached` runs what stands before the actions once; `pruned` and `pruned_cached` are those two with
fewer tokens; `_eager` is without CUDA graphs. Speed-ups are medians of ratios to the first row, round by round. `floor`
is the least time of the backbone by the rates of a matrix product and a copy, measured in the same run. Weights are
random unless --policy is given: they do not change the time.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..configuration.reader import check_names
from ..policy.engine.machine import command_line
from ..policy.mla.presets import MLA_PRESETS
from ..policy.mvla.presets import PRESETS
from ..pruning.methods import METHODS
from . import options

SUMMARY = "latency of policy calls, pruned or not"
EPILOG = """examples:
  mvla bench --preset base --keep 0.5 0.35 0.25            256 + 256 tokens, width 384, 12 layers
  mvla bench --preset base --width 1024 --depth 16 --keep 0.33 --threads 2
  mvla bench --preset small --method tri_stage fastv divprune --keep 0.35
  mvla bench --policy medium --keep 0.35                   a trained policy with its own pruning parameters
  mvla bench --preset mla-7b --device cuda --keep 0.5 0.35 0.33 --json gpu.json --plot gpu.html
  mvla bench --sensor-to-command --json latency.json       what camera and commands add, with real nodes over DDS
  mvla bench --read latency.json --plot latency.html       plots of what was measured before
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--preset", type=_preset, default="small", help=f"of {', '.join([*PRESETS, *MLA_PRESETS])} (default small)"
    )
    what.add_argument(
        "--policy", type=options.policy, help="a policy folder or a shipped one, instead of random weights"
    )
    what.add_argument(
        "--sensor-to-command", action="store_true", help="transport and conversion around the policy call"
    )
    what.add_argument("--read", type=Path, metavar="FILE", help="measure nothing, plot what is in this file")
    parser.add_argument("--width", type=options.whole(1, 65536), help="of the backbone, instead of the preset's")
    parser.add_argument("--depth", type=options.whole(1, 1024), help="layers, instead of the preset's")
    parser.add_argument(
        "--image-size", type=options.whole(1, 4096), help="pixels, instead of the preset's; fewer image tokens"
    )
    parser.add_argument("--groups", type=options.whole(1, 65536), help="point tokens, instead of the preset's")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default cpu)")
    parser.add_argument(
        "--precision", default="auto",
        help="fp32, bf16, fp16, int8 (weights of mla presets) or auto (bf16 on a GPU; default auto)",
    )  # fmt: skip
    parser.add_argument("--threads", type=options.processes, default=1, help="CPU threads of the policy (default 1)")
    parser.add_argument(
        "--method", type=options.method, nargs="+", default=["tri_stage"], help=f"of: {', '.join(METHODS)}"
    )
    parser.add_argument("--keep", type=options.ratio, nargs="+", default=[0.5, 0.35, 0.25], help="keep ratios")
    parser.add_argument(  # fewer give no median that can be trusted
        "--rounds",
        type=options.whole(15, options.MOST),
        default=22,
        help="timed calls per variant, at least 15 (default 22)",
    )
    parser.add_argument(
        "--seconds", type=options.number(1, 86400), default=20.0, help="of --sensor-to-command (default 20)"
    )
    parser.add_argument(
        "--two-cameras", action="store_true",
        help="of --sensor-to-command: beside an arm and on its hand, which moves, and a policy of random weights",
    )  # fmt: skip
    parser.add_argument("--json", type=options.output_file, metavar="FILE", help="join the rows to those of this file")
    parser.add_argument(
        "--plot", type=options.output_file, metavar="FILE", help="write plots, a page that needs no network"
    )


@options.argument
def _preset(text: str) -> str:
    check_names([text], (*PRESETS, *MLA_PRESETS), "preset")
    return text


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the rows."""
    from ..evaluation.latency.results_file import add_rows, read_rows

    if args.json:
        read_rows(args.json)  # a file that cannot be added to is better found now
    if args.sensor_to_command:
        return _sensor_to_command(args)
    if args.read is not None:
        if args.plot is None:
            raise ValueError("--read needs --plot: where the plots go")
        return _plot(read_rows(args.read)["rows"], args.plot)
    rows = _measure(args)
    if args.json:
        add_rows(args.json, rows, command_line())
        print(f"rows written to {args.json}")
    return _plot(rows, args.plot) if args.plot else 0


def _measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    from rich.console import Console

    from ..evaluation.latency.bench import Lengths, bench_row, measure, total_rounds, variants
    from ..evaluation.latency.costs import measure_floor
    from ..evaluation.latency.subject import Subject, resized
    from ..models import policy_folder
    from ..policy.engine.device import set_threads
    from ..reports.terminal import ProgressBar

    sizes = (args.width, args.depth, args.image_size, args.groups)
    set_threads(args.threads)
    if args.policy is not None:
        if any(size is not None for size in sizes):
            raise ValueError(
                "--width, --depth, --image-size and --groups are for presets; a trained policy has its own"
            )
        subject = Subject.trained(policy_folder(args.policy), args.device, args.precision)
    else:
        config = (PRESETS | MLA_PRESETS)[args.preset]
        subject = Subject.random(args.preset, resized(config, *sizes), args.device, args.precision)
    device = subject.policy.device
    todo = variants(args.method, args.keep, subject.denoises, device.type == "cuda")
    observations = subject.observations(12)
    console = Console(width=max(110, Console().width))
    with ProgressBar("calls", total_rounds(observations, args.rounds), console=console) as bar:
        timings = measure(subject, todo, observations, args.rounds, bar.step)
    floor = measure_floor(device, subject.dtype)
    lengths = Lengths.of(subject, observations[0])
    rows = [bench_row(subject, v, t, timings[todo[0]], lengths, floor) for v, t in timings.items()]
    console.print(_table(rows))
    return rows


def _sensor_to_command(args: argparse.Namespace) -> int:
    from ..evaluation.latency.results_file import set_entry
    from ..rigs.latency import measure_sensor_to_command

    entry = measure_sensor_to_command(args.seconds, two_cameras=args.two_cameras)
    for name, value in entry.items():
        print(f"{name:28} {value}")
    if args.json:
        name = "sensor_to_command" + "_two_cameras" * args.two_cameras
        set_entry(args.json, name, {**entry, "command": command_line()})
        print(f"written to {args.json}")
    return 0


def _plot(rows: list[dict[str, Any]], path: Path) -> int:
    from ..evaluation.latency.results_file import write_page

    if not rows:
        raise ValueError("there are no rows to plot")
    write_page(rows, path)
    print(f"plots written to {path}")
    return 0


def _table(rows: list[dict[str, Any]]) -> Any:
    from ..reports.terminal import table

    first = rows[0]
    title = (
        f"{first['subject']}: width {first['width']}, {first['depth']} layers, {first['visual_tokens']} visual tokens, "
        f"{first['precision']} on {first['device']}; medians of {first['rounds']} interleaved calls, ms"
    )
    columns = ("variant", "keep", "tokens", "policy", "p99", "backbone", "floor", "selection", "share", "speed-up")
    cells = (
        (
            r["variant"], f"{r['keep_ratio']:g}", str(r["tokens"]), f"{r['policy_ms_p50']:.1f}",
            f"{r['policy_ms_p99']:.1f}", f"{r['backbone_ms_p50']:.1f}", f"{r['floor_ms']:.1f}",
            f"{r['selection_ms_p50']:.2f}", f"{100 * r['selection_share']:.1f} %", f"{r['speed_up']:.2f}",
        )
        for r in rows
    )  # fmt: skip
    return table(title, columns, cells, title_justify="center")
