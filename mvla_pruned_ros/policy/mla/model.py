"""The MLA network: towers, projectors, Llama backbone, diffusion head. Tensors in, tensors out.

Sequence, after `models/vlm/prismatic.py` of upstream (commit 072f5d8), causal throughout:
``start | points | image (views) | tactile | prompt | proprio | timestep | noisy actions``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from ...pruning.in_call import CallView, InCallRule
from ..engine.attention import AttentionRows, PrefixCache
from ..engine.backbone import BackboneOutput, DenoisingPasses, Prefix, llama_backbone, run_backbone, text_scores
from ..engine.diffusion import cosine_alphas, ddim_timesteps
from .config import MLAConfig
from .heads import NoiseHead, TimeEmbedder, embedder, projector
from .image_tower import ImageTower
from .point_tower import PointTower


@dataclass
class MLABatch:
    """Inputs of B samples.

    Attributes:
        image: (B, V, S, S, 3) uint8 RGB, the front view first.
        points: (B, N, 3) float32, metres. first, second: of ``sample_groups``.
        proprio: (B, P) float32, normalised. prompt: (B, L) int64 token ids, without the start token.
        image_kept: (B, M2) int64 ascending indices of the image tokens that stay, None for all; points_kept likewise.
    """

    image: Tensor
    points: Tensor
    first: Tensor
    second: Tensor
    proprio: Tensor
    prompt: Tensor
    image_kept: Tensor | None = None
    points_kept: Tensor | None = None


class MLAModel(nn.Module):
    """Weights of an MLA policy. Proprio and actions are normalised, points in metres."""

    def __init__(self, config: MLAConfig) -> None:
        super().__init__()
        self.config, w = config, config.width
        self.image_tower = ImageTower(
            config.grid, config.patch_size, config.window, config.image_width, config.image_heads
        )
        self.image_projector = projector(config.image_width, w)
        self.point_tower = PointTower(config.point_width, config.point_token_width, config.neighbours)
        self.point_projector = projector(config.point_token_width, w)
        self.proprio_embedder = embedder(config.proprio_dim, w, w)
        self.action_embedder = embedder(config.action_dim, w, w)
        self.time_embedder = TimeEmbedder(w)
        self.backbone, self.final_norm = llama_backbone(
            config.vocabulary, w, config.mlp_width, config.depth, config.heads, config.norm_eps
        )
        self.noise_head = NoiseHead(w, config.action_dim)
        self.timesteps = ddim_timesteps(config.ddim_train_steps, config.ddim_steps)

    @classmethod
    def empty(cls, config: MLAConfig, device: torch.device) -> MLAModel:
        """A model without weights, which takes no memory: ``load_state_dict(..., assign=True)`` gives it some."""
        with torch.device("meta"):
            model = cls(config)
        model.backbone.rotary_emb = LlamaRotaryEmbedding(model.backbone.config).to(device)
        return model.eval().requires_grad_(False)

    @cached_property
    def alphas(self) -> Tensor:
        """(train steps,) cumulative, on the host: only single values of it are used."""
        return cosine_alphas(self.config.ddim_train_steps)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.noise_head.scale.dtype

    @property
    def evidence_layers(self) -> tuple[int, ...]:
        """Layers whose attention is read."""
        return self.config.evidence_layers

    @property
    def noise_shape(self) -> tuple[int, int]:
        """(chunk, A) of what ``decode`` starts from."""
        return self.config.chunk_size, self.config.action_dim

    def tokenize(self, batch: MLABatch) -> Prefix:
        """Encode the tokens that stay, and only those."""
        config, b, device = self.config, len(batch.proprio), batch.proprio.device
        points = self.point_tower(batch.points, batch.first, batch.second, batch.points_kept)
        image = self.image_tower(batch.image, batch.image_kept)
        blank = batch.prompt.new_full((b, 1), config.blank_token) if config.blank_before_proprio else None
        prompt = batch.prompt if blank is None else torch.cat([batch.prompt, blank], 1)
        start = self.backbone.embed_tokens(batch.prompt.new_full((b, 1), config.start_token))
        pieces = [
            start,
            self.point_projector(points),
            self.image_projector(image),
            torch.zeros_like(start),  # tactile: none here, which upstream gives as zeros
            self.backbone.embed_tokens(prompt),
            self.proprio_embedder(batch.proprio.to(self.dtype))[:, None],
        ]
        tokens = torch.cat(pieces, 1)
        g, n = config.num_groups, batch.image.shape[1] * config.num_patches

        def places(kept: Tensor | None, count: int, first: int) -> Tensor:
            return first + (torch.arange(count, device=device).expand(b, -1) if kept is None else kept)

        positions = torch.cat(
            [
                places(None, 1, 0),
                places(batch.points_kept, g, 1),
                places(batch.image_kept, n, 1 + g),
                places(None, prompt.shape[1] + 2, 1 + g + n),
            ],
            1,
        )
        g, n = points.shape[1], image.shape[1]
        visual = torch.cat([torch.arange(1 + g, 1 + g + n, device=device), torch.arange(1, 1 + g, device=device)])
        return Prefix(tokens, positions, visual, n)

    def run_backbone(
        self,
        prefix: Prefix,
        action: Tensor,
        *,
        evidence: bool = False,
        cache: PrefixCache | None = None,
        rule: InCallRule | None = None,
    ) -> BackboneOutput:
        """One pass, see ``backbone.run_backbone``. action: (B, 1 + chunk, width). evidence: of the noisy actions."""
        rows = AttentionRows(self.config.evidence_layers, self.config.chunk_size) if evidence else None
        positions = prefix.positions[:, -1:] + torch.arange(1, action.shape[1] + 1, device=action.device)
        return run_backbone(
            self.backbone, self.final_norm, prefix, action, positions,
            evidence=rows, cache=cache, rule=rule, call_view=self.call_view,
        )  # fmt: skip

    def call_view(self, prefix: Prefix, attention: Tensor | None = None) -> CallView:
        """What a rule may look at (batch 1). prefix: as it enters the backbone. attention: see ``CallView``.

        The text is the whole prompt: upstream wraps the instruction into a sentence.
        """
        after = 1 + len(prefix.visual) + 1  # start token, visual tokens, tactile
        text = prefix.tokens[0, after : -2 if self.config.blank_before_proprio else -1]
        visual = prefix.tokens[0, prefix.visual]
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
        """Normalised action chunk (B, chunk, A) and the output of the first of the DDIM passes.

        Args:
            noise: (B, chunk, A) to start from; drawn when None.
            evidence, rule, reuse_prefix, retokenize: see ``DenoisingPasses``.
        """
        if noise is None:
            noise = torch.randn((len(prefix.tokens), *self.noise_shape), device=prefix.tokens.device)
        passes = DenoisingPasses(
            self.run_backbone, prefix, evidence=evidence, reuse_prefix=reuse_prefix, rule=rule, retokenize=retokenize
        )
        return passes.denoise(self.noisy_tokens, self.noise_head, noise, self.alphas, self.timesteps)

    def noisy_tokens(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """(B, chunk, A) and (B,) -> (B, 1 + chunk, width): timestep token, then one token per noisy action."""
        return torch.cat([self.time_embedder(timestep)[:, None], self.action_embedder(sample.to(self.dtype))], 1)
