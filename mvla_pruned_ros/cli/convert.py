"""``mvla convert``: make a policy folder of an upstream MLA checkpoint, or a smaller one of a policy folder.

Upstream (arXiv 2509.26642) saves a run folder:

  RUN/config.json                  what was trained
  RUN/dataset_statistics.json      quantiles of actions and proprio
  RUN/checkpoints/*.pt             weights, by torch.save

Put the backbone's tokenizer.json (Llama-2) into RUN, or say where it is with --tokenizer. OUT gets config.json,
model-*.safetensors with their index, normalization.json and tokenizer.json; nothing else is needed from then on, and
nothing is downloaded. The checkpoint is read without running any pickled code. Every tensor that is missing, unknown,
of another shape or not finite is named. Weights are written shard by shard: 4 GB of memory are enough for 7 B.

A policy folder that `mvla train` wrote holds float32 weights in one file. Converted it holds them in half precision, in
files of a size that a repository takes, with what else it had except for training.pt; it is loaded like any other.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from . import options

if TYPE_CHECKING:
    from ..policy.engine.config import PolicyConfig

SUMMARY = "make a policy folder of an upstream MLA checkpoint, or a smaller one of a policy folder"
EPILOG = """examples:
  mvla convert exp/rlbench policies/mla                                   bfloat16, as upstream computes
  mvla convert exp/rlbench/checkpoints/step-020000.pt policies/mla        of several checkpoints this one
  mvla convert exp/rlbench policies/mla --tokenizer ~/Llama-2-7b-hf --dataset rlbench
  mvla convert exp/tiny policies/tiny --sizes sizes.json --dtype float32  another backbone than Llama-2-7B
  mvla convert out/train/base policies/base --shard-mb 15                 what was trained here, to be passed on

sizes.json holds entries of the configuration, such as {"width": 5120, "depth": 40, "heads": 40, "mlp_width": 13824}.
The inputs can be changed afterwards in OUT/config.json: workspace_lower, workspace_upper, voxel_size, step_s,
evidence_layers.

exit code: 0 when OUT was written, 2 when the checkpoint cannot be used; then there is no OUT.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "source", type=Path, metavar="RUN", help="run folder, a .pt file in its checkpoints/, or a policy folder"
    )
    parser.add_argument("out", type=options.new_folder, metavar="OUT", help="policy folder to write; must not exist")
    parser.add_argument("--dataset", metavar="NAME", help="whose statistics to use, when the file has several")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="folder of tokenizer.json (default: RUN)")
    parser.add_argument("--sizes", type=Path, metavar="FILE", help="sizes that differ from upstream's 7 B, as JSON")
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float16", "float32"),
        help="of the weights (default: bfloat16; of a policy folder float16, which rounds eight times finer)",
    )
    parser.add_argument(
        "--shard-mb", type=options.number(1, 1e6), default=1024.0, metavar="MB", help="of a file (default: %(default)g)"
    )
    parser.add_argument(
        "--blank-before-proprio",
        action="store_true",
        help="the empty word stands before proprio, as upstream seems to train, not after the action, as it infers",
    )


def run(args: argparse.Namespace) -> int:
    """Convert, with a progress bar."""
    from rich.console import Console

    from ..policy.engine.weight_files import dtype_named
    from ..policy.mla.convert import convert
    from ..policy.mvla.repack import is_policy_folder, repack
    from ..reports.terminal import ProgressBar

    trained = is_policy_folder(args.source)
    for name in ("dataset", "tokenizer", "sizes", "blank_before_proprio"):
        if trained and getattr(args, name):
            raise ValueError(
                f"--{name.replace('_', '-')} is for upstream checkpoints; {args.source} is a policy folder"
            )
    dtype = args.dtype or ("float16" if trained else "bfloat16")
    console, shard_bytes = Console(), int(args.shard_mb * 1e6)
    with ProgressBar("tensors", console=console) as bar:
        config: PolicyConfig
        if trained:
            config = repack(args.source, args.out, dtype_named(dtype), shard_bytes, bar.show)
        else:
            config = convert(
                args.source,
                args.out,
                dataset=args.dataset,
                tokenizer=args.tokenizer,
                overrides=args.sizes,
                blank_before_proprio=args.blank_before_proprio,
                dtype=dtype_named(dtype),
                shard_bytes=shard_bytes,
                on_tensor=bar.show,
            )
    console.print(
        f"{args.out}: {config.depth} layers of width {config.width}, {config.num_visual} visual tokens, "
        f"{config.chunk_size} action(s) of {config.action_dim} values per call, {dtype}"
    )
    return 0
