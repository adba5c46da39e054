"""``mvla bench``: how long policy calls take, and what of it goes into choosing tokens.

Weights are random: they do not change the time. All variants run interleaved in one process on the same observations:
`upstream` encodes and runs every token again at each denoising step; `cached` runs what stands before the actions once;
`pruned` and `pruned_cached` are those two with fewer tokens. Speed-ups are relative to the first row.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from ..policy.presets import PRESETS, preset
from ..pruning.interface import check_keep_ratio
from ..pruning.methods import METHODS, check_method

EXAMPLES = """examples:
  mvla bench --preset base --keep 0.5 0.35 0.25            256 + 256 tokens, width 384, 12 layers
  mvla bench --preset small --method tri_stage fastv divprune --keep 0.35
  mvla bench --preset base --width 1024 --depth 16 --rounds 15 --json out/bench.json
"""


def add_parser(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "bench",
        help="latency of policy calls, pruned or not",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", default="small", help=f"of: {', '.join(PRESETS)} (default small)")
    parser.add_argument("--width", type=int, help="instead of the preset's")
    parser.add_argument("--depth", type=int, help="instead of the preset's")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default cpu)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the policy (default 1)")
    parser.add_argument("--method", nargs="+", default=["tri_stage"], help=f"of: {', '.join(METHODS)}")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.5, 0.35, 0.25], help="keep ratios")
    parser.add_argument("--rounds", type=int, default=22, help="timed calls per variant, at least 15 (default 22)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the rows."""
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from ..evaluation.bench import Variant, bench_row, measure, random_policies, simulated_observations, total_rounds
    from ..evaluation.machine import machine

    for method in args.method:
        check_method(method)
    for keep in args.keep:
        check_keep_ratio(keep)
    if args.rounds < 15:
        raise ValueError(f"--rounds must be at least 15 for a median that can be trusted, got {args.rounds}")
    if args.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {args.threads}")
    changes = {k: v for k, v in (("width", args.width), ("depth", args.depth)) if v is not None}
    if args.depth:
        quarter = max(1, args.depth // 4)
        changes["evidence_layers"] = tuple(sorted({min(args.depth - 1, i * quarter) for i in (1, 2, 3)}))
    config = dataclasses.replace(preset(args.preset), **changes)
    torch.set_num_threads(args.threads)
    again = (True, False) if config.head == "ddim" else (False,)
    variants = [Variant("none", 1.0, r) for r in again]
    variants += [Variant(m, k, r) for m in args.method if m != "none" for k in args.keep for r in again]
    console = Console(width=max(100, Console().width))
    observations = simulated_observations("push", config.image_size, 12)
    policies = random_policies(config, observations[0].instruction, args.device)
    with Progress(console=console) as progress:
        bar = progress.add_task("calls", total=total_rounds(observations, args.rounds))
        timings = measure(policies, variants, observations, args.rounds, lambda: progress.advance(bar))
    rows = [bench_row(args.preset, config, v, t, timings[variants[0]]) for v, t in timings.items()]
    console.print(_table(rows))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        entry = {"machine": {**machine(), "device": policies[False].device_name, "threads": args.threads}, "rows": rows}
        args.json.write_text(json.dumps(entry, indent=1) + "\n")
        console.print(f"rows written to {args.json}")
    return 0


def _table(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    first = rows[0]
    title = (
        f"{first['preset']}: width {first['width']}, {first['depth']} layers, {first['visual_tokens']} visual tokens"
    )
    table = Table(title=f"{title}; medians of {first['rounds']} interleaved calls, ms")
    for name in ("variant", "keep", "tokens", "policy", "p99", "backbone", "selection", "share", "speed-up"):
        table.add_column(name, justify="left" if name == "variant" else "right", no_wrap=True)
    for r in rows:
        table.add_row(
            r["variant"], f"{r['keep_ratio']:g}", str(r["tokens"]), f"{r['policy_ms_p50']:.1f}",
            f"{r['policy_ms_p99']:.1f}", f"{r['backbone_ms_p50']:.1f}", f"{r['selection_ms_p50']:.2f}",
            f"{100 * r['selection_share']:.1f} %", f"{r['speed_up']:.2f}",
        )  # fmt: skip
    return table
