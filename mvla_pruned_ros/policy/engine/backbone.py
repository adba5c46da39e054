"""Prefix and action tokens through a transformers Llama: attention evidence, rules inside the call, prefix reuse.

Shared by every policy whose backbone is a ``LlamaModel``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from ...pruning.in_call import InCallRule, true_at
from .attention import NAME, AttentionRows, PrefixCache
from .cuts import Cuts, Shown
from .lean_layer import LeanLayer, last_rows, lean_rope


@dataclass
class Prefix:
    """Everything that stands before the action tokens.

    Attributes:
        tokens: (B, T, width) embeddings. positions: (B, T) int64, those of the unpruned sequence.
        visual: (M2 + M3,) int64 indices into T of the visual tokens, image first.
        num_image: how many image tokens were encoded.
    """

    tokens: Tensor
    positions: Tensor
    visual: Tensor
    num_image: int

    def keep_visual(self, chosen: Tensor) -> tuple[Prefix, Tensor]:
        """This prefix with the visual tokens of (M,) ascending ``chosen`` only, and the indices into T that stay."""
        stays = torch.ones(self.tokens.shape[1], dtype=torch.bool, device=chosen.device)
        stays = stays.index_fill(0, self.visual, False).index_fill(0, self.visual[chosen], True)
        kept = true_at(stays, len(stays) - len(self.visual) + len(chosen))
        visual = (stays.cumsum(0) - 1)[self.visual[chosen]]
        return Prefix(self.tokens[:, kept], self.positions[:, kept], visual, self.num_image), kept


@dataclass
class BackboneOutput:
    """What a pass gives.

    Attributes:
        hidden: (B, Q, width) of the action segment, after the final norm.
        norm, attention: (B, M2 + M3) evidence, None unless asked for.
        choices: layer -> (M,) visual tokens that a rule left there, of those of the prefix, where it let some go.
        computed: visual tokens that the layers ran on, mean over layers; None without a rule.
    """

    hidden: Tensor
    norm: Tensor | None = None
    attention: Tensor | None = None
    choices: dict[int, Tensor] = field(default_factory=dict)
    computed: float | None = None

    @property
    def chosen(self) -> Tensor | None:
        """(M,) visual tokens that a rule left in the end; None where it let none go, and without a rule."""
        return self.choices[max(self.choices)] if self.choices else None


def llama_backbone(
    vocabulary: int, width: int, mlp_width: int, depth: int, heads: int, norm_eps: float = 1e-6
) -> tuple[LlamaModel, nn.Module]:
    """A Llama that ``run_backbone`` takes, and its final norm.

    Evidence needs the features before the final norm, the head those after it: so the norm stands apart.
    """
    llama = LlamaModel(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=mlp_width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            rms_norm_eps=norm_eps,
            max_position_embeddings=4096,
            attn_implementation=NAME,
            use_cache=False,
        )
    )
    final_norm, llama.norm = llama.norm, nn.Identity()
    return llama, final_norm


def run_backbone(
    llama: LlamaModel,
    final_norm: nn.Module,
    prefix: Prefix,
    action: Tensor,
    action_positions: Tensor,
    *,
    evidence: AttentionRows | None = None,
    cache: PrefixCache | None = None,
    rule: InCallRule | None = None,
    shown: Shown | None = None,
    mask: Tensor | None = None,
) -> BackboneOutput:
    """One pass: prefix and action tokens through the layers.

    Of the last layer only the action tokens are wanted: what it would make of the prefix nothing reads, and no training
    ever saw. So it runs on them alone, with the keys and values of all.

    Args:
        llama, final_norm: of ``llama_backbone``; the norm is applied to what the action head is given.
        prefix: B samples. action: (B, Q, width) embeddings of the action segment. action_positions: (B, Q) int64.
        evidence: an empty reader; fills ``attention`` and, unless the cache was filled, ``norm`` of the output.
        cache: prefix cache of this call. Empty: it is filled with the prefix. Filled: only the action tokens run, with
            the same result within float tolerance; then there is no norm evidence.
        rule: lets visual tokens go after its layers (batch 1); not with a filled cache, which holds the choice.
        shown: what the rule is shown of this prefix, see ``Cuts``.
        mask: (T + Q, T + Q) bool, true where a token may look, instead of at all before it; not with a cache.
    """
    queries = action.shape[1]
    filled = cache is not None and cache.filled
    hidden = action if filled else torch.cat([prefix.tokens, action], 1)
    positions = action_positions if filled else torch.cat([prefix.positions, action_positions], 1)
    rope, cuts = llama.rotary_emb(hidden, positions), None
    if rule is not None:
        assert shown is not None
        if rule.memory is not None and cache is None:
            cache = PrefixCache()
        cuts = Cuts(rule, shown, prefix.visual, hidden.shape[1], queries, len(llama.layers), cache, evidence)
    shaped = lean_rope if isinstance(llama.layers[0], LeanLayer) else tuple
    turns = shaped(rope)
    # The loop of LlamaModel.forward, less what a pruned sequence has no use for.
    for index, layer in enumerate(llama.layers):
        readers = [] if evidence is None else [evidence]
        if cuts is not None:
            readers += cuts.before(index)
        if index == len(llama.layers) - 1:
            features = hidden
            hidden = last_rows(layer, hidden, queries, mask, turns, cache, readers)
            break
        hidden = layer(
            hidden, attention_mask=mask, position_embeddings=turns, prefix_cache=cache, attention_rows=readers
        )
        if cuts is not None and (on := cuts.after(index)) is not None:
            hidden, rope = hidden[:, on], (rope[0][:, on], rope[1][:, on])
            turns = shaped(rope)
    out = BackboneOutput(final_norm(hidden))
    in_stream = among_keys = prefix.visual
    if cuts is not None:
        in_stream, among_keys = cuts.finish()
        out.choices, out.computed = cuts.choices, sum(cuts.computed) / len(cuts.computed)
    if evidence is not None:
        out.attention = evidence.mean()[:, among_keys]
        out.norm = None if filled else features[:, in_stream].abs().mean(-1).float()
    return out


def text_scores(llama: LlamaModel, text: Tensor, visual: Tensor) -> Tensor:
    """Relevance of visual tokens to a text in the first layer: query times key, without rotary positions and softmax.

    Args:
        text: (L, width), visual: (N, width) embeddings as they enter the backbone.

    Returns:
        (N,) float32, mean over heads and text tokens.
    """
    first = llama.layers[0]
    first = first if isinstance(first, LeanLayer) else LeanLayer(first)
    query, key = first.project(text[None])[0][0], first.project(visual[None])[1][0]  # (H, L, D), (KV, N, D)
    key = key.repeat_interleave(first.heads // first.kv_heads, 0)
    return torch.einsum("hld,hnd->n", query.float(), key.float()) / (len(text) * first.heads)
