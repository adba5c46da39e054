"""An MLA policy on disk: config.json, sharded safetensors, normalization.json, tokenizer.json. No pickle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ..engine.int8 import to_int8
from ..engine.lean_layer import LeanLayer
from ..engine.weight_files import CheckpointError, open_weights, weight_files
from ..mvla.checkpoint import config_file
from . import normalization, prompt
from .config import MLAConfig
from .model import MLAModel
from .normalization import MLANormalization
from .prompt import PromptTokenizer


def load_weights(model: MLAModel, folder: Path, device: torch.device, int8: bool = False) -> None:
    """Give an empty model its weights, strictly, layer by layer straight onto the device, in the precision on disk.

    Args:
        int8: the backbone's in 8 bits, see ``fill``; the others in bf16.

    Raises:
        CheckpointError: a file missing, truncated or of another format; tensors missing, unknown, of another shape or
            of several precisions; values not finite.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    problems, seen, kinds = [], set(), set()
    for _, shard in open_weights(folder):  # headers only: a misfit is told before gigabytes are read
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
    if not problems:
        with contextlib.ExitStack() as stack:
            shards = [stack.enter_context(safe_open(p, "pt", str(device))) for p in weight_files(folder)]
            holder = {name: shard for shard in shards for name in shard.keys()}  # noqa: SIM118

            def tensor(name: str) -> Tensor:
                value = holder[name].get_tensor(name)
                if not torch.isfinite(value).all():
                    problems.append(f"{name} has values that are not finite")
                return value.bfloat16() if int8 else value

            fill(model, tensor, int8)
    if problems:
        raise CheckpointError(f"{folder} does not fit its config.json: {'; '.join(problems)}")


def fill(model: MLAModel, tensor: Callable[[str], Tensor], int8: bool) -> None:
    """Give an empty model its weights, the backbone layer by layer.

    Args:
        tensor: gives one by name. int8: layers become lean ones with weights in 8 bits as they come, so that one layer
            at most is in memory in full.
    """
    layers = model.backbone.layers
    of_layers = {f"backbone.layers.{i}.{name}" for i, layer in enumerate(layers) for name in layer.state_dict()}
    others = [name for name in model.state_dict() if name not in of_layers]
    model.load_state_dict({name: tensor(name) for name in others}, strict=False, assign=True)
    for i, layer in enumerate(layers):
        weights = {name: tensor(f"backbone.layers.{i}.{name}") for name in layer.state_dict()}
        layer.load_state_dict(weights, assign=True)
        if int8:
            layers[i] = to_int8(LeanLayer(layer))


def load_mla_parts(
    folder: Path, device: torch.device, int8: bool = False
) -> tuple[MLAModel, PromptTokenizer, MLANormalization]:
    """Read a folder that ``mvla convert`` wrote, in eval mode. int8: see ``load_weights``.

    Raises:
        CheckpointError: see its description.
    """
    path = config_file(folder)
    try:
        config = MLAConfig.load(path)
        tokenizer = PromptTokenizer.load(folder / prompt.FILE, config)
        found = MLANormalization.load(folder / normalization.FILE)
        try:
            found.check(config.proprio_dim, config.action_dim)
        except ValueError as error:
            raise ValueError(f"{folder / normalization.FILE} {error}") from error
        model = MLAModel.empty(config, device)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    load_weights(model, folder, device, int8)
    return model.eval().requires_grad_(False), tokenizer, found
