"""The one way to load a policy folder, whatever its architecture."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from ..configuration.reader import read_json
from .engine.weight_files import CheckpointError
from .mla.config import ARCHITECTURE as MLA
from .mla.config import MLAConfig
from .mla.policy import MLAPolicy
from .mvla.checkpoint import config_file
from .mvla.config import MVLAConfig
from .mvla.policy import MVLAPolicy

LoadedPolicy: TypeAlias = MVLAPolicy | MLAPolicy


def load_config(folder: Path | str) -> MVLAConfig | MLAConfig:
    """Configuration of a policy folder. Its ``architecture`` says which kind; without one it is an MVLA policy.

    Raises:
        CheckpointError: no such folder or configuration, or one that does not hold together.
    """
    path = config_file(Path(folder))
    try:
        architecture = read_json(path).get("architecture")
        if architecture is None:
            return MVLAConfig.load(path)
        if architecture == MLA:
            return MLAConfig.load(path)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    raise CheckpointError(f"{path} names architecture {architecture!r}: known are {MLA!r}, and none for MVLA")


def load_policy(folder: Path | str, device: str = "cpu", precision: str = "auto") -> LoadedPolicy:
    """A policy ready to act. device, precision: see ``resolve_device`` and ``resolve_precision``.

    Raises:
        CheckpointError: the folder is malformed; the message names the file, the key and the remedy.
        ValueError: there is no such device or precision.
    """
    kind = MLAPolicy if isinstance(load_config(folder), MLAConfig) else MVLAPolicy
    return kind.load(folder, device, precision)
