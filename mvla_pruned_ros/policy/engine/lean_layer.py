"""A Llama layer with fewer and larger operations, for inference.

Where few tokens run, a call's time is that of its many small operations and not of its arithmetic: query, key and value
are one product here, gate and up another, the scales of the norms lie in the weights, and rotary positions turn queries
and keys at once. The plain reference is transformers' ``LlamaDecoderLayer``, from which it is made; a test holds the
two together. The idea is that of Realtime-VLA (arXiv 2510.26742).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, apply_rotary_pos_emb

from .attention import AttentionRows, PrefixCache, attend


class LeanLayer(nn.Module):
    """See the module. Called as the layer that it replaces."""

    def __init__(self, layer: LlamaDecoderLayer) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.index: int = attention.layer_idx
        self.head_dim: int = attention.head_dim
        self.heads = attention.q_proj.out_features // self.head_dim
        self.kv_heads = attention.k_proj.out_features // self.head_dim
        self.eps: float = layer.input_layernorm.variance_epsilon
        self.qkv = _joined(layer.input_layernorm.weight, attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = attention.o_proj
        self.gate_up = _joined(layer.post_attention_layernorm.weight, mlp.gate_proj, mlp.up_proj)
        self.down = mlp.down_proj

    def forward(
        self, hidden: Tensor, *, attention_mask: Tensor | None, position_embeddings: tuple[Tensor, Tensor],
        prefix_cache: PrefixCache | None, attention_rows: Sequence[AttentionRows], rows: int = 0,
    ) -> Tensor:  # fmt: skip
        """(B, T, width) -> (B, T, width), of the last ``rows`` only where that is not 0. position_embeddings: of
        ``lean_rope``. The others: see ``attend``."""
        turned, value = self._projected(hidden)
        cos, sin = position_embeddings
        turned = torch.addcmul(turned * cos, turned.roll(self.head_dim // 2, -1), sin)
        query, key = turned.split([self.heads, self.kv_heads], 1)
        mixed = attend(query[:, :, -rows:], key, value, self.index, attention_mask, attention_rows, prefix_cache)
        hidden = hidden[:, -rows:] + self.out(mixed.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self._normed(hidden)).chunk(2, -1)
        return hidden + self.down(nn.functional.silu(gate).mul_(up))

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, width) -> query (B, H, T, D), key and value (B, KV, T, D), without rotary positions."""
        both, value = self._projected(hidden)
        query, key = both.split([self.heads, self.kv_heads], 1)
        return query, key, value

    def _projected(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, width) -> (B, H + KV, T, D) query and key side by side, (B, KV, T, D) value."""
        heads = self.qkv(self._normed(hidden)).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        both, value = heads.split([self.heads + self.kv_heads, self.kv_heads], 1)
        return both, value

    def _normed(self, hidden: Tensor) -> Tensor:
        return nn.functional.rms_norm(hidden, hidden.shape[-1:], eps=self.eps)


def last_rows(
    layer: nn.Module, hidden: Tensor, rows: int, mask: Tensor | None, turns: tuple[Tensor, Tensor],
    cache: PrefixCache | None, readers: Sequence[AttentionRows],
) -> Tensor:  # fmt: skip
    """(B, T, width) -> (B, rows, width): what a lean or a plain layer gives for the last rows, without the work for
    the others. turns: cosines and sines as the layer takes them. The others: see ``attend``, mask for all rows."""
    mask = mask if mask is None else mask[-rows:]
    if isinstance(layer, LeanLayer):
        return layer(
            hidden, attention_mask=mask, position_embeddings=turns, prefix_cache=cache, attention_rows=readers,
            rows=rows,
        )  # fmt: skip
    assert isinstance(layer, LlamaDecoderLayer)
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    projections = attention.q_proj, attention.k_proj, attention.v_proj
    query, key, value = (p(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2) for p in projections)
    query, key = apply_rotary_pos_emb(query, key, *turns)
    mixed = attend(query[:, :, -rows:], key, value, attention.layer_idx, mask, readers, cache)
    hidden = hidden[:, -rows:] + attention.o_proj(mixed.transpose(1, 2).flatten(2))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def lean_rope(rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (B, T, D) each, of ``LlamaRotaryEmbedding`` as the layers take them: (B, 1, T, D), the sign of
    the rotation in the sines."""
    cos, sin = (x[:, None] for x in rope)
    half = sin.shape[-1] // 2
    return cos, torch.cat([-sin[..., :half], sin[..., half:]], -1)


def make_lean(llama: LlamaModel) -> None:
    """Replace the layers of a model that is in eval mode, in its precision and there to stay.

    The plain layers are gone afterwards, so that no weight lies in memory twice.
    """
    for index, layer in enumerate(llama.layers):
        if isinstance(layer, LlamaDecoderLayer):
            llama.layers[index] = LeanLayer(layer)


def _joined(scale: Tensor, *layers: nn.Linear) -> nn.Linear:
    """Several linear layers of one input as one, with the scale of that input in its weights."""
    weight = torch.cat([layer.weight for layer in layers]).detach()
    joined = nn.Linear(weight.shape[1], len(weight), bias=False, device="meta")
    joined.weight = nn.Parameter((weight.float() * scale.detach().float()).to(weight.dtype), requires_grad=False)
    return joined
