"""MVLA policies with random weights, for what must move but need not make sense."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from .checkpoint import save_policy
from .config import MVLAConfig
from .instruction import InstructionTokenizer
from .model import MVLAModel
from .normalization import ActionNormalization


def save_random_policy(folder: Path, config: MVLAConfig, instructions: Sequence[str], largest: np.ndarray) -> Path:
    """Write a policy folder.

    Args:
        folder: is made; returned. instructions: that it knows. largest: (A,) of its actions, in their units.
    """
    tokenizer = InstructionTokenizer.from_instructions(list(instructions), config.instruction_length)
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MVLAModel(config, tokenizer.size)
    save_policy(folder, model, tokenizer, ActionNormalization(-largest, largest))
    return folder
