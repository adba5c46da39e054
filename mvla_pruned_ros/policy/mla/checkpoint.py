"""An MLA policy on disk: config.json, sharded safetensors, normalization.json, tokenizer.json. No pickle."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..checkpoint import CheckpointError, config_file
from . import prompt, statistics
from .config import MLAConfig
from .model import MLAModel
from .prompt import PromptTokenizer
from .statistics import MLANormalization

INDEX = "model.safetensors.index.json"
SHARD_BYTES = 2**30


def write_shards(
    folder: Path,
    shapes: dict[str, torch.Size],
    dtype: torch.dtype,
    tensor: Callable[[str], Tensor],
    shard_bytes: int = SHARD_BYTES,
    on_tensor: Callable[[], Any] = lambda: None,
) -> None:
    """Write tensors as they come, one shard in memory at a time.

    Args:
        shapes: of all, by name, in the order of writing. tensor: gives one by name; it is cast to ``dtype``.
        shard_bytes: largest size of a file with more than one tensor. on_tensor: called after each.
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
            on_tensor()
        save_file(shard, folder / file, metadata={"format": "pt"})
    total = sum(shape.numel() for shape in shapes.values()) * dtype.itemsize
    index = folder / INDEX
    index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=1) + "\n")
    for file in set(where.values()):  # safetensors lets only its owner read a file
        (folder / file).chmod(index.stat().st_mode)


def _files(folder: Path) -> list[Path]:
    path = folder / INDEX
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: convert the checkpoint again with mvla convert")
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


def _shards(folder: Path, device: str) -> Iterator[tuple[Path, Any]]:
    for path in _files(folder):
        try:
            with safe_open(path, framework="pt", device=device) as shard:
                yield path, shard
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} is not a whole safetensors file ({error}): copy or convert it again"
            ) from error


def load_weights(model: MLAModel, folder: Path, device: torch.device) -> None:
    """Give an empty model its weights, strictly, tensor by tensor straight onto the device, in the precision on disk.

    Raises:
        CheckpointError: a file missing, truncated or of another format; tensors missing, unknown, of another shape or
            of several precisions; values not finite.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    problems, seen, kinds = [], set(), set()
    for _, shard in _shards(folder, "cpu"):  # headers only: a misfit is told before gigabytes are read
        for name in shard.keys():  # noqa: SIM118 (not a dict)
            one = shard.get_slice(name)
            shape = tuple(one.get_shape())
            if name not in wanted:
                problems.append(f"unknown {name}")
            elif shape != wanted[name]:
                problems.append(f"{name} has shape {shape}, needs {wanted[name]}")
            seen.add(name)
            kinds.add(one.get_dtype())
    problems += [f"missing {name}" for name in sorted(wanted.keys() - seen)]
    if not problems and not (len(kinds) == 1 and kinds <= {"F32", "F16", "BF16"}):
        problems.append(f"weights are {', '.join(sorted(kinds))}, must all be of one of F32, F16, BF16")
    weights = {}
    if not problems:
        for _, shard in _shards(folder, str(device)):
            weights.update({name: shard.get_tensor(name) for name in shard.keys()})  # noqa: SIM118
        problems = [f"{k} has values that are not finite" for k, v in weights.items() if not torch.isfinite(v).all()]
    if problems:
        raise CheckpointError(f"{folder} does not fit its config.json: {'; '.join(problems)}")
    model.load_state_dict(weights, assign=True)


def load_mla_parts(folder: Path, device: torch.device) -> tuple[MLAModel, PromptTokenizer, MLANormalization]:
    """Read a folder that ``mvla convert`` wrote, in eval mode.

    Raises:
        CheckpointError: see its description.
    """
    path = config_file(folder)
    try:
        config = MLAConfig.load(path)
        tokenizer = PromptTokenizer.load(folder / prompt.FILE, config)
        normalization = MLANormalization.load(folder / statistics.FILE)
        try:
            normalization.check(config.proprio_dim, config.action_dim)
        except ValueError as error:
            raise ValueError(f"{folder / statistics.FILE} {error}") from error
        model = MLAModel.empty(config, device)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    load_weights(model, folder, device)
    return model.eval().requires_grad_(False), tokenizer, normalization
