"""From an upstream MLA run folder to a policy folder that holds no pickle and needs nothing else."""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...configuration.reader import read_config, read_json
from ..engine.weight_files import SHARD_BYTES, CheckpointError, new_folder, refuse_existing, write_shards
from . import normalization, prompt
from .config import MLAConfig
from .model import MLAModel
from .normalization import MLANormalization, only_dataset
from .prompt import PromptTokenizer
from .upstream import TACTILE, problems, sources

STATISTICS = "dataset_statistics.json"
ZIP = b"PK\x03\x04"  # how a file of torch.save begins


def find_checkpoint(source: Path) -> tuple[Path, Path]:
    """Run folder and checkpoint file of what was given: a ``.pt`` file, or a folder that holds one.

    The file lies in ``<run>/checkpoints``, as training writes it, or beside ``config.json``, as in a download.

    Raises:
        CheckpointError: there is none, or there are several.
    """
    if source.is_file():
        return (source.parent.parent if source.parent.name == "checkpoints" else source.parent), source
    if not source.is_dir():
        raise CheckpointError(f"no checkpoint at {source}: give a .pt file or the run folder that holds checkpoints/")
    folder = source / "checkpoints" if (source / "checkpoints").is_dir() else source
    latest = folder / "latest-checkpoint.pt"
    files = [latest] if latest.is_file() else sorted(folder.glob("*.pt"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise CheckpointError(f"{folder} must hold one .pt file, holds {names}: give the file itself")
    return source, files[0]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Tensors of an upstream checkpoint by ``module.name``, mapped from the file and read when they are used.

    Raises:
        CheckpointError: truncated, of another format, or with Python objects in it (which are not loaded).
    """
    with path.open("rb") as file:
        if file.read(len(ZIP)) != ZIP:
            raise CheckpointError(
                f"{path} is not a checkpoint of torch.save in its present (zip) format: save it again"
            )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"{path} holds more than tensors{f' ({named[1]})' if named else ''} and was not loaded, because a pickled "
            'object can run anything: save {"model": {module: {name: tensor}}} and nothing else'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is not a whole checkpoint of torch.save ({str(error).split('. ')[0]}): copy or save it again"
        ) from error
    modules = content.get("model") if isinstance(content, dict) else None
    if not isinstance(modules, dict) or not all(isinstance(module, dict) for module in modules.values()):
        raise CheckpointError(f'{path} is no MLA checkpoint: it must hold {{"model": {{module: {{name: tensor}}}}}}')
    tensors = {f"{module}.{name}": value for module, names in modules.items() for name, value in names.items()}
    strange = sorted(name for name, value in tensors.items() if not isinstance(value, Tensor))
    if strange:
        raise CheckpointError(f"{path} holds values that are no tensors: {', '.join(strange)}")
    return tensors


def read_run_config(run: Path, overrides: Path | None) -> MLAConfig:
    """Our configuration of an upstream run: what its config.json says of actions, and sizes of Llama-2-7B.

    Args:
        overrides: JSON with entries of ``MLAConfig``, for checkpoints of other sizes.

    Raises:
        CheckpointError: an entry is missing or of the wrong kind, or the policy needs what is not here.
    """
    path = run / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: upstream writes it into the run folder, beside checkpoints/")
    try:
        entries = read_json(path)
        for name in ("action_dim", "future_action_window_size"):
            if type(entries.get(name)) is not int:
                raise ValueError(f"{path}: {name} is {entries.get(name)!r}, must be a whole number")
        for name, needed, why in (
            ("use_diff", True, "only the diffusion head is supported, not the autoregressive one"),
            ("use_pointcloud", True, "without point tokens the policy sees one modality"),
            ("use_tactile", False, "an observation here holds no tactile reading"),
        ):
            if entries.get(name, needed) is not needed:
                raise ValueError(f"{path}: {name} is {entries[name]!r}, but {why}")
        size = entries["action_dim"]
        ours = {"action_dim": size, "proprio_dim": size, "chunk_size": entries["future_action_window_size"] + 1}
        return read_config(MLAConfig, overrides or path, ours | (read_json(overrides) if overrides else {}))
    except (ValueError, OSError) as error:
        raise CheckpointError(str(error)) from error


def convert(
    source: Path,
    out: Path,
    *,
    dataset: str | None = None,
    tokenizer: Path | None = None,
    overrides: Path | None = None,
    blank_before_proprio: bool = False,
    dtype: torch.dtype = torch.bfloat16,
    shard_bytes: int = SHARD_BYTES,
    on_tensor: Callable[[int, int], Any] = lambda done, total: None,
) -> MLAConfig:
    """Write a policy folder. At most one shard of the weights is in memory; the folder appears when it is whole.

    Args:
        source: see ``find_checkpoint``. out: folder, must not exist.
        dataset: whose statistics to use, needed when there are several. tokenizer: folder of ``tokenizer.json``, by
            default the run folder. overrides: see ``read_run_config``. dtype: of the weights on disk.
        on_tensor: told how many tensors of how many are written.

    Raises:
        CheckpointError: the checkpoint or a file beside it is missing, malformed or does not fit; names everything.
    """
    run, file = find_checkpoint(source)
    refuse_existing(out)
    config = replace(read_run_config(run, overrides), blank_before_proprio=blank_before_proprio)
    words = (tokenizer or run) / prompt.FILE
    try:
        PromptTokenizer.load(words, config)
        quantiles = _normalization(run / STATISTICS, dataset, config)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    tensors, wanted = read_checkpoint(file), sources(config)
    if any(name.startswith(TACTILE) for name in tensors):
        raise CheckpointError(f"{file} was trained with tactile readings, which an observation here does not hold")
    found = problems(tensors, wanted)
    if found:
        raise CheckpointError(f"{file} does not fit: {'; '.join(found)}")

    def tensor(name: str) -> Tensor:
        return wanted[name].build(*(tensors[key] for key in wanted[name].keys))

    shapes = {name: value.shape for name, value in MLAModel.empty(config, torch.device("cpu")).state_dict().items()}
    with new_folder(out) as folder:
        write_shards(folder, shapes, dtype, tensor, shard_bytes, on_tensor)
        config.save(folder / "config.json")
        quantiles.save(folder / normalization.FILE)
        shutil.copyfile(words, folder / prompt.FILE)
    return config


def _normalization(table: Path, dataset: str | None, config: MLAConfig) -> MLANormalization:
    """Statistics of the data set, for actions and proprioception of the configuration; ValueError names the file."""
    normalization = MLANormalization.load(table, only_dataset(table, dataset))
    try:
        normalization.check(config.proprio_dim, config.action_dim)
    except ValueError as error:
        raise ValueError(f"{table} {error}") from error
    return normalization
