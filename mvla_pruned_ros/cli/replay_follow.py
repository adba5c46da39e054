"""``mvla replay --follow``: the calls of the policy node, made again."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def run_follow(args: argparse.Namespace) -> int:
    """Make the recorded calls of the policy node again, compare, print and write; returns the exit code.

    Raises:
        ValueError: no calls in the bag, an argument that would not be read, or another policy than the node's.
    """
    for name, default in (("keep", 0.5), ("method", "tri_stage")):
        if getattr(args, name) != default:
            raise ValueError(f"--{name} does not go with --follow, which takes all from what the node recorded")
    # Before torch is loaded: its threads that spin while they wait make a busy machine slow.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..bags.reader import Bag
    from ..models import policy_folder
    from ..policy.engine.device import set_threads
    from ..policy.fingerprint import policy_fingerprint
    from ..policy.source import load_policy
    from ..replay.follow import RecordedCalls
    from ..replay.follow_report import VERDICTS, follow_bag, machine_here

    console = Console()
    with Bag(args.bag) as bag:
        calls = RecordedCalls(bag)
        node = calls.records[0][1].node
        folder = policy_folder(args.policy or node["policy"])
        fingerprint = policy_fingerprint(folder)
        if fingerprint != node["fingerprint"]:
            raise ValueError(
                f"policy {folder} has fingerprint {fingerprint}, the node ran {node['policy']} with "
                f"{node['fingerprint']}: name its folder with --policy"
            )
        device = node["device"] if args.device == "auto" else args.device
        set_threads(node["torch_threads"])
        policy = load_policy(folder, device, node["precision"])
        here = machine_here(policy, folder, device, node["precision"], fingerprint)
        args.out.mkdir(parents=True, exist_ok=True)
        columns = (TextColumn("calls"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("", total=len(calls.records))
            numbers = follow_bag(
                calls, policy, here, args.out, lambda done, total: progress.update(bar, completed=done, total=total)
            )
    console.print(_follow_table(numbers, args.bag))
    console.print(f"wrote {args.out / 'follow.json'} and calls.jsonl")
    return int(numbers["verdict"] == VERDICTS[2])


def _follow_table(numbers: dict, bag: Path) -> object:
    from rich.table import Table

    done = numbers["followed"]
    table = Table(title=f"{bag}: {numbers['verdict']}", title_justify="left", show_header=False)
    table.add_row("calls of the node", f"{numbers['calls']} in {numbers['episodes']} episode(s)")
    table.add_row("made again", str(done))
    for cause, count in numbers["skipped"].items():
        table.add_row(f"not made: {cause}", str(count))
    for words, count in numbers["settings"].items():
        table.add_row(words, str(count))
    table.add_row("the same tokens stayed", f"{numbers['selections_same']} of {done}")
    table.add_row("the same actions, bit by bit", f"{numbers['actions_exact']} of {done}")
    worst = ", ".join(f"{name} {value:.3g}" for name, value in numbers["largest_difference"].items())
    table.add_row("largest difference", worst)
    for cause in numbers["causes"]:
        table.add_row("cause", cause)
    return table
