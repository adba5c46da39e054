"""The MLA network: towers, projectors, Llama backbone, diffusion head. Tensors in, tensors out.

Sequence, after `models/vlm/prismatic.py` of upstream (commit 072f5d8), causal throughout:
``start | points | image (views) | tactile | prompt | proprio | timestep | noisy actions``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from ..engine.backbone import Prefix, llama_backbone
from ..engine.diffusion import cosine_alphas, ddim_timesteps
from ..engine.network import PolicyNetwork
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


class MLAModel(PolicyNetwork):
    """Weights of an MLA policy. Proprio and actions are normalised, points in metres."""

    config: MLAConfig

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
        self.alphas = cosine_alphas(config.ddim_train_steps)
        self.timesteps = ddim_timesteps(config.ddim_train_steps, config.ddim_steps)

    @classmethod
    def empty(cls, config: MLAConfig, device: torch.device) -> MLAModel:
        """A model without weights, which takes no memory: ``load_state_dict(..., assign=True)`` gives it some."""
        with torch.device("meta"):
            model = cls(config)
        model.backbone.rotary_emb = LlamaRotaryEmbedding(model.backbone.config).to(device)
        return model.eval().requires_grad_(False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.noise_head.scale.dtype

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
        g, n = config.num_groups, batch.image.shape[1] * config.grid**2

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

    def positions(self, prefix: Prefix, action: Tensor) -> Tensor:
        return prefix.positions[:, -1:] + torch.arange(1, action.shape[1] + 1, device=action.device)

    def text(self, prefix: Prefix) -> Tensor:
        """The whole prompt: upstream wraps the instruction into a sentence."""
        after = 1 + len(prefix.visual) + 1  # start token, visual tokens, tactile
        return prefix.tokens[0, after : -2 if self.config.blank_before_proprio else -1]

    def predicted_noise(self, hidden: Tensor) -> Tensor:
        return self.noise_head(hidden)

    def time_tokens(self, timesteps: Tensor) -> Tensor:
        return self.time_embedder(timesteps)

    def noisy_tokens(self, sample: Tensor, time: Tensor) -> Tensor:
        return torch.cat([time[:, None], self.action_embedder(sample.to(self.dtype))], 1)
