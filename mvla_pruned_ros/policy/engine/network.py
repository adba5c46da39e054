"""What the networks of all architectures have in common: a backbone, evidence, rules inside the call, denoising."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaModel

from ...pruning.in_call import CallView, FixedChoice, InCallRule
from .attention import AttentionRows, PrefixCache
from .backbone import BackboneOutput, Prefix, run_backbone, text_scores
from .config import PolicyConfig
from .diffusion import ddim


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

    def time_tokens(self, timesteps: Tensor) -> Tensor:
        """(B,) timesteps of the diffusion -> (B, width)."""
        raise NotImplementedError

    def noisy_tokens(self, sample: Tensor, time: Tensor) -> Tensor:
        """(B, chunk, A) and the (B, width) token of the time -> (B, 1 + chunk, width): that, then one token per noisy
        action."""
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

        Everything before the action tokens is the same at every step, so with ``reuse_prefix`` it runs once (exact).

        Args:
            evidence: read it in the first pass. noise: (B, chunk, A) to start from; drawn when None.
            rule: chooses in the first pass; the others keep its choice.
            retokenize: with ``reuse_prefix`` off, called before every pass but the first: upstream encodes its inputs
                anew at each.
        """
        if noise is None:
            assert self.noise_shape is not None
            noise = torch.randn((len(prefix.tokens), *self.noise_shape), device=prefix.tokens.device)
        cache = PrefixCache() if reuse_prefix else None
        first: BackboneOutput | None = None

        # The same at each denoising step of each sample, so that all run at once.
        device = prefix.tokens.device
        # Filled there: a copy from the host could not be recorded in a CUDA graph.
        times = self.time_tokens(torch.cat([torch.full((1,), t, device=device) for t in self.timesteps]))

        def predict_noise(sample: Tensor, step: int) -> Tensor:
            nonlocal prefix, rule, first
            if first is not None and retokenize is not None:
                prefix = retokenize()
            action = self.noisy_tokens(sample, times[step].expand(len(sample), -1))
            out = self.run_backbone(prefix, action, evidence=evidence and first is None, cache=cache, rule=rule)
            first = first or out
            if rule is not None and out.chosen is not None:
                rule = None if cache is not None else FixedChoice(rule.layer, out.chosen)
            return self.predicted_noise(out.hidden[:, 1:]).float()

        sample = ddim(predict_noise, noise, self.alphas, self.timesteps)
        assert first is not None
        return sample, first
