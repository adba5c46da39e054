"""``mvla train``: train a policy on the scripted experts of the simulated robot.

Everything is kept in the output folder: run the same command again after an interruption and it goes on.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  mvla train --preset small --out out/train/small          (how the shipped policy was made)
  mvla train --preset small --out out/train/quick --steps 200   (a look at how it goes)
  mvla train --preset small-aware --out out/train/small-aware --data out/train/small/demonstrations
"""


def add_parser(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "train",
        help="train a policy on the scripted experts",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", default="small", help="recipe (default small)")
    parser.add_argument("--out", type=Path, required=True, help="folder for data, checkpoints and the policy")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="demonstrations, recorded where missing (default: OUT/demonstrations)"
    )
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--precision", choices=("bf16", "fp32"), help="instead of the recipe's")
    parser.add_argument(
        "--no-compile", action="store_true", help="do without torch.compile (which needs a C++ compiler on CPU)"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that record episodes")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Record what is missing, train, leave the policy in ``--out``."""
    from rich.console import Console

    from ..models import policy_folder
    from ..policy.device import resolve_device
    from ..training.collect import collect
    from ..training.demonstrations import Demonstrations
    from ..training.loop import train
    from ..training.recipes import RECIPES

    if args.preset not in RECIPES:
        raise ValueError(f"unknown preset {args.preset!r}: choose from {', '.join(RECIPES)}")
    if args.steps is not None and args.steps < 1 or args.workers < 1:
        raise ValueError(f"--steps and --workers must be at least 1, got {args.steps} and {args.workers}")
    recipe, console = RECIPES[args.preset], Console()
    training = replace(recipe.training, device=resolve_device(args.device).type)
    if args.no_compile:
        training = replace(training, compile=False)
    if args.steps:
        training = replace(training, steps=args.steps)
    if args.precision:
        training = replace(training, precision=args.precision)
    folder = args.data or args.out / "demonstrations"
    console.print(f"{len(recipe.shards)} files of demonstrations in {folder}")
    paths = collect(
        recipe.shards,
        recipe.policy,
        folder,
        args.workers,
        lambda shard, episodes, frames: console.print(f"  {shard.name}: {episodes} solved, {frames} frames"),
    )
    data = Demonstrations.load(paths)
    console.print(f"{training.steps} steps on {len(data)} frames")
    train(data, recipe.policy, training, args.out, policy_folder(recipe.start) if recipe.start else None)
    console.print(f"policy in {args.out}; try it: mvla evaluate --policy {args.out} --tasks push --episodes 20")
    return 0
