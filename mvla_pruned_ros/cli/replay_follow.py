"""``mvla replay --follow``: the calls of the policy node, made again."""

from __future__ import annotations

import argparse
from pathlib import Path


def run_follow(args: argparse.Namespace) -> int:
    """Make the recorded calls of the policy node again, compare, print and write; returns the exit code.

    Raises:
        ValueError: no calls in the bag, an argument that would not be read, or another policy than the node's.
    """
    for name, default in (("keep", 0.5), ("method", "tri_stage")):
        if getattr(args, name) != default:
            raise ValueError(f"--{name} does not go with --follow, which takes all from what the node recorded")
    from rich.console import Console

    from ..bags.reader import Bag
    from ..models import policy_folder
    from ..policy.engine.device import set_threads
    from ..policy.fingerprint import policy_fingerprint
    from ..policy.source import load_policy
    from ..replay.follow import RecordedCalls
    from ..replay.follow_report import VERDICTS, follow_bag, machine_here
    from ..reports.terminal import ProgressBar

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
        with ProgressBar("calls", len(calls.records), console=console) as bar:
            numbers = follow_bag(calls, policy, here, args.out, bar.show)
    console.print(_follow_table(numbers, args.bag))
    console.print(f"wrote {args.out / 'follow.json'} and calls.jsonl")
    return int(numbers["verdict"] == VERDICTS[2])


def _follow_table(numbers: dict, bag: Path) -> object:
    from ..reports.terminal import table

    done = numbers["followed"]
    worst = ", ".join(f"{name} {value:.3g}" for name, value in numbers["largest_difference"].items())
    rows = [
        ("calls of the node", f"{numbers['calls']} in {numbers['episodes']} episode(s)"),
        ("made again", str(done)),
        *((f"not made: {cause}", str(count)) for cause, count in numbers["skipped"].items()),
        *((words, str(count)) for words, count in numbers["settings"].items()),
        ("the same tokens stayed", f"{numbers['selections_same']} of {done}"),
        ("the same actions, bit by bit", f"{numbers['actions_exact']} of {done}"),
        ("largest difference", worst),
        *(("cause", cause) for cause in numbers["causes"]),
    ]
    return table(f"{bag}: {numbers['verdict']}", ("", ""), rows, left=2, show_header=False)
