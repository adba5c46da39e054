"""Fused causal attention that also reads a few rows, registered with transformers under one name.

LlamaModel hands query, key and value of every layer to the registered function; it scores the last query rows
at the chosen layers and leaves everything else to the fused kernel. No copy of Llama is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

NAME = "mvla_causal"


@dataclass
class AttentionRows:
    """Collects attention of the last rows.

    Attributes:
        layers: which layers to read.
        rows: how many of the last query rows.
        collected: one (B, keys) tensor per layer read, mean over heads and rows.
    """

    layers: tuple[int, ...]
    rows: int
    collected: list[Tensor] = field(default_factory=list)

    def mean(self) -> Tensor:
        """(B, keys), mean over the layers read."""
        return torch.stack(self.collected).mean(0)


def _causal_attention(
    module: nn.Module,
    query: Tensor,  # (B, H, Q, D)
    key: Tensor,  # (B, H, K, D)
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    attention_rows: AttentionRows | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # grouped-query attention
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    queries, keys = query.shape[2], key.shape[2]
    if queries == keys:
        out = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    else:  # the first keys come from a prefix cache
        mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
        out = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    if attention_rows is not None and module.layer_idx in attention_rows.layers:
        n = attention_rows.rows
        scores = query[:, :, -n:] @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
        future = torch.ones(n, keys, dtype=torch.bool, device=query.device).triu(keys - n + 1)
        scores = scores.masked_fill(future, float("-inf"))
        attention_rows.collected.append(scores.float().softmax(-1).mean((1, 2)))
    return out.transpose(1, 2), None


def _no_mask(*_: Any, **__: Any) -> None:
    """Causality is in the kernel. transformers would build a mask here: it takes the gaps that pruning leaves in
    position_ids for borders between packed sequences."""


AttentionInterface.register(NAME, _causal_attention)
AttentionMaskInterface.register(NAME, _no_mask)
