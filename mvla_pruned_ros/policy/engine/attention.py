"""Fused causal attention that also reads a few rows, registered with transformers under one name.

LlamaModel hands query, key and value of every layer to the registered function; it scores the last query rows
at the chosen layers and leaves everything else to the fused kernel. No copy of Llama is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        per_row: keep the rows apart.
        collected: one (B, keys) tensor per layer read, mean over heads and rows; (B, rows, keys) with ``per_row``.
    """

    layers: tuple[int, ...]
    rows: int
    per_row: bool = False
    collected: list[Tensor] = field(default_factory=list)

    def mean(self) -> Tensor:
        """(B, keys), mean over the layers read."""
        return torch.stack(self.collected).mean(0)


class PrefixCache:
    """Keys and values of one call: those of the prefix are kept, those of the action tokens written over in place.

    Its buffers are what the first pass computed, one pair a layer, and never grow: a later pass copies nothing but its
    own tokens. (transformers' DynamicCache copies all of it at every pass.)
    """

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self._masks: dict[tuple[int, int], Tensor] = {}

    @property
    def filled(self) -> bool:
        """Whether a pass has been made."""
        return bool(self._layers)

    def update(self, key: Tensor, value: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values, each (B, H, T + Q, D), for a pass that brings (B, H, T + Q, D) at first, then (B, H, Q, D).

        Where a rule dropped tokens after a layer, T differs between layers.
        """
        if layer not in self._layers:
            self._layers[layer] = key, value
            return key, value
        keys, values = self._layers[layer]
        keys[:, :, -key.shape[2] :] = key
        values[:, :, -key.shape[2] :] = value
        return keys, values

    def mask(self, query: Tensor, keys: int) -> Tensor:
        """(Q, keys) bool, true where one of the last Q tokens may look; made once for all layers and passes."""
        shape = query.shape[2], keys
        if shape not in self._masks:
            self._masks[shape] = torch.ones(shape, dtype=torch.bool, device=query.device).tril(keys - shape[0])
        return self._masks[shape]


def _causal_attention(
    module: Any,
    query: Tensor,  # (B, H, Q, D)
    key: Tensor,  # (B, H, K, D)
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    attention_rows: Sequence[AttentionRows] = (),
    prefix_cache: PrefixCache | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    if prefix_cache is not None:
        key, value = prefix_cache.update(key, value, module.layer_idx)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # grouped-query attention
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    queries, keys = query.shape[2], key.shape[2]
    if attention_mask is not None:
        out = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling)
    elif queries == keys:
        out = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    else:  # the first keys come from the prefix cache
        assert prefix_cache is not None
        mask = prefix_cache.mask(query, keys)
        out = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    for reader in attention_rows:
        if module.layer_idx not in reader.layers:
            continue
        n = reader.rows
        scores = query[:, :, -n:] @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
        future = torch.ones(n, keys, dtype=torch.bool, device=query.device).triu(keys - n + 1)
        scores = scores.masked_fill(future, float("-inf"))
        mean_over = 1 if reader.per_row else (1, 2)
        reader.collected.append(scores.float().softmax(-1).mean(mean_over))
    return out.transpose(1, 2), None


def _no_mask(*_: Any, **__: Any) -> None:
    """Causality is in the kernel. transformers would build a mask here: it takes the gaps that pruning leaves in
    position_ids for borders between packed sequences."""


AttentionInterface.register(NAME, _causal_attention)
AttentionMaskInterface.register(NAME, _no_mask)
