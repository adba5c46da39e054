"""MLA policies with random weights, which are enough to measure time and memory."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine.device import resolve_device
from .checkpoint import fill
from .config import MLAConfig
from .model import MLAModel
from .normalization import MLANormalization
from .policy import MLAPolicy
from .prompt import PromptTokenizer


def random_mla_model(
    config: MLAConfig, device: torch.device, dtype: torch.dtype, seed: int = 0, int8: bool = False
) -> MLAModel:
    """A model whose weights are drawn on the device in their precision: no other copy of them is made.

    Matrices are normal with deviation 0.02, as Llama's are before training; norms are 1 and biases 0. int8: see
    ``fill``.
    """
    model = MLAModel.empty(config, device)
    shapes = {name: like.shape for name, like in model.state_dict().items()}
    generator = torch.Generator(device).manual_seed(seed)

    def tensor(name: str) -> Tensor:
        weight = torch.empty(shapes[name], dtype=dtype, device=device)
        if weight.ndim > 1:
            return weight.normal_(std=0.02, generator=generator)
        return weight.fill_(0 if name.endswith("bias") else 1)

    fill(model, tensor, int8)
    return model.eval().requires_grad_(False)


def random_mla_policy(
    config: MLAConfig, device: str, dtype: torch.dtype, seed: int = 0, recompute: bool = False, int8: bool = False
) -> MLAPolicy:
    """A policy on ``random_mla_model``, with one token for every word and values that pass as they are.

    Several policies can share the weights: ``MLAPolicy(policy.model, policy.tokenizer, policy.normalization, ...)``.
    """
    model = random_mla_model(config, resolve_device(device), dtype, seed, int8)
    normalization = MLANormalization.identity(config.proprio_dim, config.action_dim)
    return MLAPolicy(model, PromptTokenizer.stand_in(config), normalization, device, recompute=recompute)
