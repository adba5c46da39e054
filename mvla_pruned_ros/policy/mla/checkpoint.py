"""An MLA policy on disk: config.json, sharded safetensors, normalization.json, tokenizer.json. No pickle."""

from __future__ import annotations

from pathlib import Path

import torch

from ..engine.weight_files import CheckpointError, open_weights
from ..mvla.checkpoint import config_file
from . import normalization, prompt
from .config import MLAConfig
from .model import MLAModel
from .normalization import MLANormalization
from .prompt import PromptTokenizer


def load_weights(model: MLAModel, folder: Path, device: torch.device) -> None:
    """Give an empty model its weights, strictly, tensor by tensor straight onto the device, in the precision on disk.

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
    weights = {}
    if not problems:
        for _, shard in open_weights(folder, str(device)):
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
        found = MLANormalization.load(folder / normalization.FILE)
        try:
            found.check(config.proprio_dim, config.action_dim)
        except ValueError as error:
            raise ValueError(f"{folder / normalization.FILE} {error}") from error
        model = MLAModel.empty(config, device)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    load_weights(model, folder, device)
    return model.eval().requires_grad_(False), tokenizer, found
