"""Weights on disk: one safetensors file, or shards of it with the index that Hugging Face uses. No pickle."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 2**30


class CheckpointError(ValueError):
    """A policy folder is missing or malformed; the message names the file, the key and the remedy."""


def refuse_existing(out: Path) -> None:
    """Raises CheckpointError when there is something already where a policy folder is to be written."""
    if out.exists():
        raise CheckpointError(f"{out} exists already: give a new folder, or remove it first")


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``out`` when all went well."""
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    partial.rename(out)


def write_shards(
    folder: Path,
    shapes: dict[str, torch.Size],
    dtype: torch.dtype,
    tensor: Callable[[str], Tensor],
    shard_bytes: int = SHARD_BYTES,
    on_tensor: Callable[[int, int], Any] = lambda done, total: None,
) -> None:
    """Write tensors as they come, one shard in memory at a time.

    Args:
        shapes: of all, by name, in the order of writing. tensor: gives one by name; it is cast to ``dtype``.
        shard_bytes: of tensors in a file that holds more than one. on_tensor: told how many tensors of how many are
            written.
    """
    plan: list[list[str]] = [[]]
    used = 0
    for name, shape in shapes.items():
        size = shape.numel() * dtype.itemsize
        if plan[-1] and used + size > shard_bytes:
            plan.append([])
            used = 0
        plan[-1].append(name)
        used += size
    where = {}
    for i, names in enumerate(plan, 1):
        file = f"model-{i:05d}-of-{len(plan):05d}.safetensors"
        shard = {}
        for name in names:
            shard[name] = tensor(name).to(dtype).contiguous()
            where[name] = file
            on_tensor(len(where), len(shapes))
        save_file(shard, folder / file, metadata={"format": "pt"})
    total = sum(shape.numel() for shape in shapes.values()) * dtype.itemsize
    index = folder / INDEX
    index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=1) + "\n")
    for file in set(where.values()):  # safetensors lets only its owner read a file
        (folder / file).chmod(index.stat().st_mode)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of a policy folder: those its index names, or the one there is without an index.

    Raises:
        CheckpointError: a file is missing, the index is none, or there are weights of both kinds.
    """
    single, path = folder / WEIGHTS, folder / INDEX
    if not path.is_file():
        if not single.is_file():
            raise CheckpointError(f"{single} is missing, and so is {INDEX}: a policy folder needs its weights")
        return [single]
    if single.is_file():
        raise CheckpointError(f"{folder} holds {WEIGHTS} and {INDEX}: remove the weights that are not meant")
    try:
        names = sorted(set(json.loads(path.read_text())["weight_map"].values()))
        plain = all(Path(name).name == name for name in names)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not an index of safetensors files: {error!r}") from error
    if not plain:
        raise CheckpointError(f"{path} names files outside its folder: {names}")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}, which {INDEX} names: copy or convert it again")
    return [folder / name for name in names]


def open_weights(folder: Path, device: str = "cpu") -> Iterator[tuple[Path, Any]]:
    """Each weight file of a policy folder with its open safetensors reader.

    Raises:
        CheckpointError: as ``weight_files`` does, or a file is truncated or of another format.
    """
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt", device=device) as shard:
                yield path, shard
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} is not a whole safetensors file ({error}): copy or convert it again"
            ) from error


def dtype_named(name: str) -> torch.dtype:
    """``float16``, ``bfloat16`` or ``float32``."""
    return getattr(torch, name)
