"""What the networks of all architectures have in common: a backbone, evidence, rules inside the call, denoising."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaModel

from ...pruning.in_call import CallView, InCallRule
from .attention import AttentionRows, PrefixCache
from .backbone import BackboneOutput, DenoisingPasses, Prefix, run_backbone, text_scores
from .config import PolicyConfig


class PolicyNetwork(nn.Module):
    """Tokens in, normalised actions out. Subclasses add tokenizers and an action head.

    Attributes:
        backbone, final_norm: of ``llama_backbone``. alphas: (train steps,) cumulative. timesteps: descending.
    """

    config: PolicyConfig
    backbone: LlamaModel
    final_norm: nn.Module
    alphas: Tensor
    timesteps: Sequence[int]

    @property
    def evidence_layers(self) -> tuple[int, ...]:
        """Backbone layers whose attention is read."""
        return self.config.evidence_layers

    @property
    def noise_shape(self) -> tuple[int, int] | None:
        """(chunk, A) of the noise that ``decode`` starts from; None where it starts from nothing."""
        return self.config.chunk_size, self.config.action_dim

    def tokenize(self, batch: Any) -> Prefix:
        """Encode the tokens that the batch says stay, and only those."""
        raise NotImplementedError

    def text(self, prefix: Prefix) -> Tensor:
        """(L, width) tokens of the text in a prefix (batch 1)."""
        raise NotImplementedError

    def noisy_tokens(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """(B, chunk, A) and (B,) -> (B, 1 + chunk, width): timestep token, then one token per noisy action."""
        raise NotImplementedError

    def predicted_noise(self, hidden: Tensor) -> Tensor:
        """(B, chunk, width) backbone features -> (B, chunk, A)."""
        raise NotImplementedError

    def positions(self, prefix: Prefix, action: Tensor) -> Tensor:
        """(B, Q) positions of the action segment; they do not move when tokens before it are dropped."""
        raise NotImplementedError

    def run_backbone(
        self,
        prefix: Prefix,
        action: Tensor,
        *,
        evidence: bool = False,
        cache: PrefixCache | None = None,
        rule: InCallRule | None = None,
    ) -> BackboneOutput:
        """One pass, see ``backbone.run_backbone``. action: (B, Q, width). evidence: read what pruning learns from."""
        rows = AttentionRows(self.evidence_layers, self.config.chunk_size) if evidence else None
        return run_backbone(
            self.backbone, self.final_norm, prefix, action, self.positions(prefix, action),
            evidence=rows, cache=cache, rule=rule, call_view=self.call_view,
        )  # fmt: skip

    def call_view(self, prefix: Prefix, attention: Tensor | None = None) -> CallView:
        """What a rule may look at (batch 1). prefix: as it enters the backbone. attention: see ``CallView``."""
        text, visual = self.text(prefix), prefix.tokens[0, prefix.visual]
        return CallView(visual, prefix.num_image, text, attention, lambda: text_scores(self.backbone, text, visual))

    def decode(
        self,
        prefix: Prefix,
        *,
        evidence: bool = False,
        noise: Tensor | None = None,
        rule: InCallRule | None = None,
        reuse_prefix: bool = True,
        retokenize: Callable[[], Prefix] | None = None,
    ) -> tuple[Tensor, BackboneOutput]:
        """Normalised action chunk (B, chunk, A) by DDIM, and the output of the first pass through the backbone.

        Args:
            noise: (B, chunk, A) to start from; drawn when None.
            evidence, rule, reuse_prefix, retokenize: see ``DenoisingPasses``.
        """
        if noise is None:
            assert self.noise_shape is not None
            noise = torch.randn((len(prefix.tokens), *self.noise_shape), device=prefix.tokens.device)
        passes = DenoisingPasses(
            self.run_backbone, prefix, evidence=evidence, reuse_prefix=reuse_prefix, rule=rule, retokenize=retokenize
        )
        return passes.denoise(self.noisy_tokens, self.predicted_noise, noise, self.alphas, self.timesteps)
