"""``mvla gpu``: all that is to be measured on a GPU, within minutes.

Tests that need one, actions beside those of the CPU, latency of MLA's 7B network and of the smaller ones (kernel by
kernel and as CUDA graphs, every pruning method), 8-bit weights where torchao is installed, success in simulation where
that is installed. Each part is saved as soon as it is done, and one that is done is not run again: stopped, the same
command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from . import options

SUMMARY = "all measurements that need a GPU, in one go"
EPILOG = """examples:
  mvla gpu                                 on the first GPU, within 12 minutes, into build/gpu
  mvla gpu --device cpu --tiny --out out/rehearsal     whether it would run, on a machine without one
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu with --tiny (default cuda)")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and few calls: figures that mean nothing")
    parser.add_argument(
        "--minutes", type=options.number(0.1, 600), default=12.0,
        help="parts that may take more than what is left of them are put off (default 12)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=options.output_folder, default=Path("build/gpu"), metavar="DIR",
        help="gets gpu.json and gpu.md (default build/gpu)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run what is not done yet; 1 where a part failed."""
    from ..evaluation.device.page import fragment
    from ..evaluation.device.parts import Setup
    from ..evaluation.device.suite import FAILED, run_suite

    if args.device == "cpu" and not args.tiny:
        raise ValueError("--device cpu is for a rehearsal, which needs --tiny: MLA's 7B network takes hours on a CPU")
    args.out.mkdir(parents=True, exist_ok=True)
    content = run_suite(Setup(args.device, args.tiny, Path.cwd()), args.out / "gpu.json", args.minutes)
    (args.out / "gpu.md").write_text(fragment(content), encoding="utf-8")
    print(f"written to {args.out / 'gpu.json'} and {args.out / 'gpu.md'}")
    return int(any(part["state"] == FAILED for part in content["parts"].values()))
