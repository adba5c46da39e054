"""``mvla train``: train a policy on the scripted experts of the simulated robot, or on recorded bags.

Everything is kept in the output folder: run the same command again after an interruption and it goes on, from the last
full minute. learning_curve.html there shows how it goes.

Started by torchrun it uses several GPUs or machines, each batch shared out evenly: the result is that of one process
but for rounding. Each machine records its own demonstrations; without a common folder for them give each its own.

With --bag network and training are those of the preset, demonstrations come from the bags: observations as the policy
node would see them, actions from the recorded twist and gripper command at the policy's steps. Without a topic of a
twist the differences of the end-effector pose are taken, without one of a gripper command the opening. --policy-config
says which views, features of proprio and form of actions the policy has: poses and steps with rotation, or joints.
docs/your_own_robot.md shows the whole way. In the end the parameters of pruning are fitted to a few frames of the bags,
unless --no-calibrate says otherwise; `mvla calibrate --bag` does that more thoroughly.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options
from .bag_options import BAG_OPTIONS, add_bag_arguments, bag_setup, print_unused

if TYPE_CHECKING:
    from rich.console import Console

    from ..policy.mvla.config import MVLAConfig
    from ..training.loop import TrainingConfig
    from ..training.recipes import Recipe, Shard

MOST_WORDS = 24  # of an instruction
# Of what pruning parameters are fitted to after a training on bags: so many frames of so many bags, of so many of each.
QUICK_FRAMES, QUICK_BAGS, QUICK_LOOK = 80, 3, 500
SUMMARY = "train a policy on the scripted experts"
EPILOG = """examples:
  mvla train --preset small --out out/train/small          (how the shipped policy was made)
  mvla train --preset small --out out/train/quick --steps 200   (a look at how it goes)
  mvla train --bag bags/monday bags/tuesday --remap image:=/camera/color/image_raw --bag-config my_robot.yaml
      --workspace -0.3 0.2 0.0 0.3 0.8 0.5 --out out/train/mine
  mvla train --preset panda --device cuda --out out/train/panda   (392 + 128 tokens, two cameras: hours on a CPU)
  torchrun --nproc-per-node 4 --no-python mvla train --preset panda --device cuda --out out/train/panda
  mvla train --preset small-robust-aware --out out/train/aware --data out/train/small-robust/demonstrations
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("--preset", default="small", help="recipe (default small)")
    parser.add_argument(
        "--out", type=options.output_folder, required=True, help="folder for data, checkpoints and the policy"
    )
    parser.add_argument(
        "--data", type=options.output_folder, metavar="DIR",
        help="demonstrations, recorded where missing (default: OUT/demonstrations)",
    )  # fmt: skip
    parser.add_argument("--bag", nargs="+", type=Path, metavar="BAG", help="learn from these bags instead")
    parser.add_argument(
        "--workspace", nargs=6, type=float, metavar=("X0", "Y0", "Z0", "X1", "Y1", "Z1"),
        help="with --bag: corners of the box of points the policy sees, base frame, metres (default: the simulator's)",
    )  # fmt: skip
    parser.add_argument(
        "--step-s", type=options.number(0.001, 10), metavar="S",
        help="with --bag: seconds between two actions (default: 0.0125)",
    )  # fmt: skip
    parser.add_argument(
        "--policy-config", type=Path, metavar="FILE",
        help="with --bag: YAML or JSON with keys of the policy's config.json that differ from the preset's: views, "
        "proprio, action_space, action_dim, chunk_size, image_size, ... (docs/your_own_robot.md)",
    )  # fmt: skip
    parser.add_argument(
        "--most-hz", type=options.number(0, 1000), default=0.0, metavar="HZ",
        help="with --bag: frames per second taken (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--no-calibrate", action="store_true",
        help="with --bag: do not fit the pruning parameters to the bags afterwards (see `mvla calibrate`)",
    )  # fmt: skip
    add_bag_arguments(parser)
    parser.add_argument("--steps", type=options.whole(1, 10**9), help="instead of the recipe's")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--precision", choices=("bf16", "fp32"), help="instead of the recipe's")
    parser.add_argument(
        "--no-compile", action="store_true", help="do without torch.compile (which needs a C++ compiler on CPU)"
    )
    parser.add_argument(
        "--workers", type=options.processes, default=os.cpu_count() or 1, help="processes that record episodes"
    )


def run(args: argparse.Namespace) -> int:
    """Record what is missing, train, leave the policy in ``--out``."""
    from rich.console import Console

    from ..configuration.reader import check_names
    from ..models import policy_folder
    from ..policy.engine.device import resolve_device
    from ..training.demonstrations import Demonstrations
    from ..training.loop import train
    from ..training.ranks import Ranks
    from ..training.recipes import RECIPES

    check_names([args.preset], RECIPES, "preset")
    recipe, device = RECIPES[args.preset], resolve_device(args.device)
    ranks = Ranks.join(device)
    console = Console(quiet=ranks.local != 0)
    if ranks.local != 0:
        ranks.wait()  # for the first process of this machine, which records what the others then find
    training, config = _training(args, recipe, device.type), _policy(args, recipe)
    paths = (_from_bags if args.bag else _from_experts)(args, recipe, config, console)
    if ranks.local == 0:
        ranks.wait()
    data = Demonstrations.load(paths)
    if args.bag:
        config = _with_words(config, list(set(data.instruction)))
    console.print(f"{training.steps} steps on {len(data)} frames")
    train(data, config, training, args.out, policy_folder(recipe.start) if recipe.start else None, ranks)
    ranks.leave()
    if args.bag and ranks.first and not args.no_calibrate:
        _calibrate(args, console)
    console.print(f"policy in {args.out}; try it: mvla {_trial(args)}", soft_wrap=True)
    return 0


def _training(args: argparse.Namespace, recipe: Recipe, device: str) -> TrainingConfig:
    """The training of a recipe with what the words of the command change."""
    changes: dict[str, Any] = {"device": device}
    if device != "cpu":
        changes["micro_batch"] = 0  # recipes have it for the cache of a CPU; a GPU is slower with small parts
    if args.no_compile:
        changes["compile"] = False
    if args.steps:
        changes["steps"] = args.steps
        changes["warmup_steps"] = min(recipe.training.warmup_steps, args.steps // 10)
    if args.precision:
        changes["precision"] = args.precision
    if args.bag:
        changes["emphasis"] = ()  # which is on tasks of the simulated robot
    return replace(recipe.training, **changes)


def _policy(args: argparse.Namespace, recipe: Recipe) -> MVLAConfig:
    """The network of a recipe; bags may have a workspace and a period of their own."""
    if not args.bag:
        for name in ("workspace", "step_s", "most_hz", "policy_config", "no_calibrate", *BAG_OPTIONS):
            if getattr(args, name):
                raise ValueError(f"--{name.replace('_', '-')} is for --bag, and none was given")
        return recipe.policy
    if recipe.start:
        raise ValueError(
            f"preset {args.preset!r} goes on from policy {recipe.start!r}, which knows other words: "
            "with --bag take a preset that begins anew"
        )
    config = _changed(recipe.policy, args.policy_config) if args.policy_config else recipe.policy
    if args.workspace:
        config = replace(config, workspace_lower=tuple(args.workspace[:3]), workspace_upper=tuple(args.workspace[3:]))
    return config if args.step_s is None else replace(config, step_s=args.step_s)


def _changed(config: MVLAConfig, path: Path) -> MVLAConfig:
    """A configuration with the keys of a file. Where that names features of proprio, their number is known."""
    from ..configuration.reader import check_names, from_entries, read_yaml
    from ..policy.mvla.config import MVLAConfig
    from ..policy.proprio import FEATURES

    entries = {**asdict(config), **(changes := read_yaml(path))}
    try:
        check_names(changes, [field.name for field in fields(MVLAConfig)], "key")
        known = [name for name in entries["proprio"] if name in FEATURES]
        if "proprio_dim" not in changes and all(FEATURES[name][0] for name in known):
            entries["proprio_dim"] = sum(FEATURES[name][0] for name in known)
        return from_entries(MVLAConfig, entries, "key")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _with_words(config: MVLAConfig, instructions: Sequence[str]) -> MVLAConfig:
    """A configuration with room for the longest of some instructions.

    Raises:
        ValueError: one is longer than may be.
    """
    from ..policy.mvla.instruction import words_of

    longest = max(map(str, instructions), key=lambda text: len(words_of(text)))
    count = len(words_of(longest))
    if count > MOST_WORDS:
        raise ValueError(f"instruction {longest!r} has {count} words, a policy learns up to {MOST_WORDS}: shorten it")
    return replace(config, instruction_length=max(config.instruction_length, count))


def _from_bags(args: argparse.Namespace, recipe: Recipe, config: MVLAConfig, console: Console) -> list[Path]:
    from ..training.from_bags import convert_bags
    from ..training.learning_curve import BAGS

    reports: dict[str, Any] = {}

    def told(bag: Path, report: dict[str, Any]) -> None:
        console.print(f"  {bag}: {report['frames']} frames, {report['actions']}")
        print_unused(console, report["not_used"], report["drops"])
        reports[str(bag)] = report

    paths = convert_bags(args.bag, bag_setup(args), config, _data_folder(args), args.most_hz, told)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / BAGS).write_text(json.dumps(reports, indent=1) + "\n")
    return paths


def _from_experts(args: argparse.Namespace, recipe: Recipe, config: MVLAConfig, console: Console) -> list[Path]:
    from ..training.collect import collect

    def told(shard: Shard, episodes: int, frames: int) -> None:
        console.print(f"  {shard.name}: {episodes} solved, {frames} frames")

    folder = _data_folder(args)
    console.print(f"{len(recipe.shards)} files of demonstrations in {folder}")
    return collect(recipe.shards, config, folder, args.workers, told)


def _calibrate(args: argparse.Namespace, console: Console) -> None:
    """Fit the pruning parameters to the bags, quickly; a policy is none the worse where that fails."""
    from rich.console import Console as Silent

    from ..evaluation.calibration.fit import Effort, mean_error
    from ..pruning.tri_stage.config import CALIBRATION_FILE
    from .calibrate import BagFit, fit_to_bags

    out = args.out / CALIBRATION_FILE
    if out.exists():  # somebody's work: this would be a coarser fit
        console.print(f"pruning parameters: {out} is kept as it is", soft_wrap=True)
        return
    again = (
        f"mvla calibrate --policy {args.out} --bag {' '.join(map(str, args.bag))} --out {out} (with the same options)"
    )
    bags = args.bag[:: -(-len(args.bag) // QUICK_BAGS)]
    todo = BagFit(str(args.out), bags, [], bag_setup(args), args.most_hz, QUICK_FRAMES, QUICK_LOOK)
    effort = Effort(keep_ratios=(0.35,), rounds=1, workers=args.workers, min_gain=0.05)
    try:
        fit = fit_to_bags(todo, effort, out, console, words=Silent(quiet=True))
    except ValueError as error:
        console.print(f"pruning parameters: not fitted, the defaults hold: {error}", soft_wrap=True)
        return
    before, after = (mean_error(fit.fitted[name]) for name in ("defaults", "calibrated"))
    console.print(
        f"pruning parameters: fitted to at most {QUICK_FRAMES} frames, {before:.3f} -> {after:.3f} of the action error "
        f"of random pruning; more thoroughly: {again}",
        soft_wrap=True,
    )


def _data_folder(args: argparse.Namespace) -> Path:
    return args.data or args.out / "demonstrations"


def _trial(args: argparse.Namespace) -> str:
    if args.bag:
        return f"replay {args.bag[0]} --policy {args.out} (with the same --remap and --bag-config)"
    return f"evaluate --policy {args.out} --tasks push --episodes 20"
