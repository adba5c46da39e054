"""A policy on disk: config.json, weights, normalization.json, tokenizer.json. No pickle."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from ...configuration.files import written_whole
from ..engine.weight_files import INDEX, WEIGHTS, CheckpointError, open_weights
from .config import MVLAConfig
from .instruction import InstructionTokenizer
from .model import MVLAModel
from .normalization import ActionNormalization


def save_policy(
    folder: Path, model: MVLAModel, tokenizer: InstructionTokenizer, normalization: ActionNormalization
) -> None:
    """Write a policy folder."""
    model.config.save(folder / "config.json")
    tokenizer.save(folder / "tokenizer.json")
    normalization.save(folder / "normalization.json")
    weights = {k: v.detach().float().cpu().contiguous() for k, v in model.state_dict().items()}
    with written_whole(folder / WEIGHTS) as partial:
        save_file(weights, partial)
        partial.chmod((folder / "config.json").stat().st_mode)  # safetensors lets nobody else read it


def load_weights(model: MVLAModel, folder: Path) -> None:
    """Fill a model, strictly; weights of a lower precision are widened.

    Raises:
        CheckpointError: a file missing, truncated or of another format; keys missing, unknown or of another
            shape; values not finite.
    """
    weights = {}
    for _, shard in open_weights(folder):
        weights.update({name: shard.get_tensor(name) for name in shard.keys()})  # noqa: SIM118 (not a dict)
    wanted = model.state_dict()
    problems = [f"missing {k}" for k in sorted(wanted.keys() - weights.keys())]
    problems += [f"unknown {k}" for k in sorted(weights.keys() - wanted.keys())]
    for key in sorted(wanted.keys() & weights.keys()):
        if weights[key].shape != wanted[key].shape:
            problems.append(f"{key} has shape {tuple(weights[key].shape)}, needs {tuple(wanted[key].shape)}")
        elif not torch.isfinite(weights[key]).all():
            problems.append(f"{key} has values that are not finite")
    if problems:
        path = folder / (INDEX if (folder / INDEX).is_file() else WEIGHTS)
        raise CheckpointError(f"{path} does not fit its config.json: {'; '.join(problems)}")
    model.load_state_dict(weights)


def config_file(folder: Path) -> Path:
    """The configuration of a policy folder.

    Raises:
        CheckpointError: no such folder, or no configuration in it.
    """
    if not folder.is_dir():
        raise CheckpointError(f"no policy folder at {folder}: give a folder with config.json and weights")
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: a policy folder needs its configuration")
    return path


def load_policy_parts(folder: Path) -> tuple[MVLAModel, InstructionTokenizer, ActionNormalization]:
    """Read a policy folder, on the CPU, in eval mode.

    Raises:
        CheckpointError: see its description.
    """
    path = config_file(folder)
    try:
        config = MVLAConfig.load(path)
        tokenizer = InstructionTokenizer.load(folder / "tokenizer.json", config.instruction_length)
        normalization = ActionNormalization.load(folder / "normalization.json")
        model = MVLAModel(config, tokenizer.size)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    if len(normalization.q01) != config.action_dim:
        raise CheckpointError(
            f"{folder / 'normalization.json'} is for {len(normalization.q01)} action values, "
            f"config.json says {config.action_dim}"
        )
    load_weights(model, folder)
    return model.eval().requires_grad_(False), tokenizer, normalization
