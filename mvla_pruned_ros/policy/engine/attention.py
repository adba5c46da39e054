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
        self._places: Tensor | None = None
        self._before: PrefixCache | None = None

    @property
    def filled(self) -> bool:
        """Whether a pass has been made."""
        return bool(self._layers)

    def narrow(self, places: Tensor, before: PrefixCache) -> None:
        """From the next layer on only the tokens at (S,) ascending ``places`` of the sequence are brought; the others
        have the keys and values of ``before``, a call with a sequence of the same length."""
        self._places, self._before = places, before

    def widen(self) -> None:
        """The pass is over, and the last tokens are those that are brought again. Lets go of the call before."""
        self._places, self._before = None, None
        self._masks = {}

    def update(self, key: Tensor, value: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values, each (B, H, T + Q, D), for a pass that brings (B, H, T + Q, D) at first, less where it was
        narrowed, then (B, H, Q, D).

        Where a rule dropped tokens after a layer, T differs between layers.
        """
        if layer not in self._layers:
            if self._places is not None:
                assert self._before is not None
                keys, values = self._before._layers[layer]
                key, value = keys.index_copy(2, self._places, key), values.index_copy(2, self._places, value)
            self._layers[layer] = key, value
            return key, value
        keys, values = self._layers[layer]
        keys[:, :, -key.shape[2] :] = key
        values[:, :, -key.shape[2] :] = value
        return keys, values

    def mask(self, query: Tensor, keys: int) -> Tensor:
        """(Q, keys) to be added to scores: 0 where one of the Q tokens that were brought may look, -inf elsewhere; made
        once for all layers and passes. (From a mask of truths the kernel makes this one anew at each call.)"""
        shape = query.shape[2], keys
        if shape not in self._masks:
            self._masks[shape] = _mask_of_last(query, keys)
            if self._places is not None:
                seen = torch.arange(keys, device=query.device) <= self._places[-shape[0] :, None]
                self._masks[shape] = torch.full_like(self._masks[shape], float("-inf")).masked_fill(seen, 0.0)
        return self._masks[shape]


def _mask_of_last(query: Tensor, keys: int) -> Tensor:
    """(Q, keys) to be added to the scores of the last Q of so many tokens."""
    nowhere = torch.full((query.shape[2], keys), float("-inf"), dtype=query.dtype, device=query.device)
    return nowhere.triu(keys - query.shape[2] + 1)


def attend(
    query: Tensor, key: Tensor, value: Tensor, layer: int, mask: Tensor | None, rows: Sequence[AttentionRows],
    cache: PrefixCache | None, scaling: float | None = None,
) -> Tensor:  # fmt: skip
    """Fused attention, causal unless a mask says otherwise.

    Args:
        query: (B, H, Q, D), of the last Q tokens. key, value: (B, KV, K, D), H a multiple of KV; with a filled cache
            (B, KV, Q, D).
        layer: index. mask: (Q, K) bool, true where a token may look; not with a cache.
        rows: readers; those that want this layer get its last rows. cache: see ``PrefixCache``.
        scaling: of the scores, None: D ** -0.5.

    Returns:
        (B, H, Q, D).
    """
    brought = key.shape[2]
    if cache is not None:
        key, value = cache.update(key, value, layer)
    queries, keys, grouped = query.shape[2], key.shape[2], query.shape[1] != key.shape[1]
    causal = mask is None and queries == keys
    if mask is None and not causal:
        mask = _mask_of_last(query, keys) if cache is None else cache.mask(query, keys)
    if mask is not None and brought < keys and not grouped and _is_fp32_on_cpu(query):
        out = _attend_in_steps(query, key, value, mask, scaling)
    else:
        out = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, scale=scaling, enable_gqa=grouped
        )
    for reader in rows:
        if layer not in reader.layers:
            continue
        n = reader.rows
        groups = query.shape[1] // key.shape[1]
        seen = key.repeat_interleave(groups, 1) if grouped else key
        scores = query[:, :, -n:] @ seen.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
        future = torch.ones(n, keys, dtype=torch.bool, device=query.device).triu(keys - n + 1)
        scores = scores.masked_fill(future, float("-inf"))
        mean_over = 1 if reader.per_row else (1, 2)
        reader.collected.append(scores.float().softmax(-1).mean(mean_over))
    return out


def _is_fp32_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32


def _attend_in_steps(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
    """What the fused kernel gives, (B, H, Q, D), where tokens look back on a cached prefix. The kernel takes a third
    longer on a CPU for the 17 rows of a denoising step."""
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))
    scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scaling or query.shape[-1] ** -0.5)
    return torch.bmm(scores.softmax(-1), v).view_as(query)


def _causal_attention(
    module: Any,
    query: Tensor,  # (B, H, Q, D)
    key: Tensor,  # (B, KV, K, D)
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    attention_rows: Sequence[AttentionRows] = (),
    prefix_cache: PrefixCache | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    out = attend(query, key, value, module.layer_idx, attention_mask, attention_rows, prefix_cache, scaling)
    return out.transpose(1, 2), None


def _no_mask(*_: Any, **__: Any) -> None:
    """Causality is in the kernel. transformers would build a mask here: it takes the gaps that pruning leaves in
    position_ids for borders between packed sequences."""


AttentionInterface.register(NAME, _causal_attention)
AttentionMaskInterface.register(NAME, _no_mask)
