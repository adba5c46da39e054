"""A policy folder as it is passed on: weights in half precision, in files that a repository takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..engine import weight_files
from .checkpoint import load_policy_parts
from .config import MVLAConfig

# Beside the weights; what is not there is left out.
COPIED = ("config.json", "normalization.json", "tokenizer.json", "pruning.json", "train.json", "log.csv", "README.md")


def is_policy_folder(path: Path) -> bool:
    """Whether weights of a policy lie there, and not an upstream checkpoint."""
    return (path / weight_files.WEIGHTS).is_file() or (path / weight_files.INDEX).is_file()


def repack(
    source: Path,
    out: Path,
    dtype: torch.dtype = torch.float16,
    shard_bytes: int = weight_files.SHARD_BYTES,
    on_tensor: Callable[[int, int], Any] = lambda done, total: None,
) -> MVLAConfig:
    """Write a policy folder anew; it appears when it is whole.

    Args:
        source: folder of an MVLA policy. out: folder, must not exist. dtype: of the weights on disk.
        shard_bytes: of tensors in one file. on_tensor: told how many tensors of how many are written.

    Raises:
        CheckpointError: ``source`` is malformed, ``out`` exists, or a weight is too large for ``dtype``.
    """
    weight_files.refuse_existing(out)
    model = load_policy_parts(source)[0]
    weights = model.state_dict()
    large = sorted(name for name, value in weights.items() if not torch.isfinite(value.to(dtype)).all())
    if large:
        raise weight_files.CheckpointError(
            f"{source} has weights too large for {dtype}: {', '.join(large)}; take bfloat16"
        )
    shapes = {name: value.shape for name, value in weights.items()}
    with weight_files.new_folder(out) as folder:
        weight_files.write_shards(folder, shapes, dtype, weights.__getitem__, shard_bytes, on_tensor)
        for name in COPIED:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    return model.config
