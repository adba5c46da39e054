"""The MVLA network: tokenizers, Llama backbone, action head. Tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from ...pruning.in_call import InCallRule, true_at
from ..engine.backbone import BackboneOutput, Prefix, llama_backbone, run_backbone
from ..engine.diffusion import cosine_alphas, ddim_timesteps, timestep_features
from ..engine.network import PolicyNetwork
from .config import MVLAConfig
from .instruction import PAD_ID
from .tokenizers import Fourier, Grounding, ImageTokenizer, PointTokenizer, gather_tokens

MEANT_M = 0.035  # a point token so near to the place of the next grasp or release, seen from above, shows what is meant
MEANT_WEIGHT = 4.0  # of those, which are few


@dataclass
class Batch:
    """Inputs of B samples.

    Attributes:
        image: (B, V, S, S, 3) uint8, the views.
        centres: (B, G, 3) float32, metres. groups: (B, G, K, 3), metres, relative. colours: (B, G, 3) uint8 RGB, None
            or of no group where the network does not take them.
        proprio: (B, P) float32. end_effector: (B, 3) float32, metres. instruction: (B, L) int64 token ids.
        goal: (B, 3) float32, metres, where the gripper opens or closes next, NaN where it does not; for training.
        image_kept: (B, M2) int64 ascending indices of the patches that stay, None for all; points_kept likewise.
    """

    image: Tensor
    centres: Tensor
    groups: Tensor
    proprio: Tensor
    end_effector: Tensor
    instruction: Tensor
    image_kept: Tensor | None = None
    points_kept: Tensor | None = None
    colours: Tensor | None = None
    goal: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same there, without waiting for copies from pinned memory."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same in pinned memory. By this name a DataLoader asks for it."""
        return self._each(Tensor.pin_memory)

    def part(self, samples: slice) -> Batch:
        """Some of the samples."""
        return self._each(lambda tensor: tensor[samples])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        values = (getattr(self, f.name) for f in fields(self))
        return Batch(*(None if value is None else change(value) for value in values))  # type: ignore[arg-type]


def _grounding_loss(batch: Batch, meant: Tensor) -> Tensor:
    """Cross entropy of (B, M3) logits of the point tokens: near the vertical through the goal, and not above it, is
    what is meant. Samples without a goal count nothing."""
    assert batch.goal is not None
    centres, goal = gather_tokens(batch.centres, batch.points_kept), batch.goal[:, None]
    offset = centres - goal
    near = (offset[..., :2].norm(dim=-1) < MEANT_M) & (offset[..., 2] < MEANT_M)
    known = torch.isfinite(goal).all(-1).expand_as(near)
    loss = nn.functional.binary_cross_entropy_with_logits(
        meant.float(), near.float(), reduction="none", pos_weight=meant.new_tensor(MEANT_WEIGHT)
    )
    return (loss * known).sum() / known.sum().clamp(min=1)


class MVLAModel(PolicyNetwork):
    """Weights of an MVLA policy. All vectors it takes and gives are normalised except proprio and points (metres)."""

    config: MVLAConfig

    def __init__(self, config: MVLAConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.image_tokenizer = ImageTokenizer(len(config.views), config.grid, config.patch_size, w)
        self.point_tokenizer = PointTokenizer(w, config.group_radius, config.point_colour)
        self.grounding = Grounding(w) if config.grounding else None
        self.proprio_fourier = Fourier()
        self.proprio_embedder = nn.Sequential(
            nn.Linear(self.proprio_fourier.size(config.proprio_dim), w), nn.GELU(), nn.Linear(w, w)
        )
        self.backbone, self.final_norm = llama_backbone(vocabulary, w, config.mlp_width, config.depth, config.heads)
        self.action_head = nn.Sequential(nn.Linear(w, w), nn.GELU(), nn.Linear(w, config.action_dim))
        if config.head == "l1":
            self.action_queries = nn.Parameter(torch.randn(config.chunk_size, w) * 0.02)
        else:
            self.action_embedder = nn.Sequential(nn.Linear(config.action_dim, w), nn.GELU(), nn.Linear(w, w))
            self.action_position = nn.Parameter(torch.randn(config.chunk_size, w) * 0.02)
            self.time_embedder = nn.Sequential(nn.Linear(256, w), nn.SiLU(), nn.Linear(w, w))
            self.register_buffer("alphas", cosine_alphas(config.ddim_train_steps), persistent=False)
            self.timesteps = ddim_timesteps(config.ddim_train_steps, config.ddim_steps)

    def tokenize(self, batch: Batch) -> Prefix:
        """Encode the tokens that stay, and only those, in the order of the configuration."""
        return self._tokenize(batch)[0]

    def _tokenize(self, batch: Batch) -> tuple[Prefix, Tensor | None]:
        """The prefix, and (B, M) of its visual tokens whether they show what is meant, see ``Grounding``."""
        device = batch.proprio.device
        pieces, positions, spans, length = [], [], {}, 0
        for segment in self.config.token_order[:-1]:
            kept = None
            if segment == "instruction":
                tokens = self.backbone.embed_tokens(batch.instruction)
            elif segment == "proprio":
                tokens = self.proprio_embedder(self._proprio_features(batch.proprio))[:, None]
            elif segment == "image":
                tokens, kept = self.image_tokenizer(batch.image, batch.image_kept), batch.image_kept
            else:
                tokens = self.point_tokenizer(
                    batch.centres, batch.groups, batch.end_effector, batch.points_kept, batch.colours
                )
                kept = batch.points_kept
            if kept is None:
                kept = torch.arange(tokens.shape[1], device=device).expand(len(tokens), -1)
            pieces.append(tokens)
            positions.append(kept + self.config.segment_start(segment))
            spans[segment] = torch.arange(length, length + tokens.shape[1], device=device)
            length += tokens.shape[1]
        visual, tokens, meant = torch.cat([spans["image"], spans["points"]]), torch.cat(pieces, 1), None
        if self.grounding is not None:
            words = tokens[:, spans["instruction"]]
            grounded, meant = self.grounding(tokens[:, visual], words, batch.instruction != PAD_ID)
            tokens = tokens.index_copy(1, visual, grounded)
        return Prefix(tokens, torch.cat(positions, 1), visual, len(spans["image"])), meant

    def _proprio_features(self, proprio: Tensor) -> Tensor:
        return self.proprio_fourier(proprio.float()).to(self.proprio_embedder[0].weight.dtype)

    def action_positions(self, batch_size: int, device: torch.device) -> Tensor:
        """(B, Q) positions of the action segment; they do not move when tokens before it are dropped."""
        start = self.config.segment_start("action")
        return torch.arange(start, start + self.config.segment_length("action"), device=device).expand(batch_size, -1)

    def positions(self, prefix: Prefix, action: Tensor) -> Tensor:
        return self.action_positions(len(action), action.device)

    def text(self, prefix: Prefix) -> Tensor:
        start, length = self.config.segment_start("instruction"), self.config.instruction_length
        is_text = (prefix.positions[0] >= start) & (prefix.positions[0] < start + length)
        return prefix.tokens[0, true_at(is_text, length)]

    @property
    def noise_shape(self) -> tuple[int, int] | None:
        """See ``PolicyNetwork``; None for the l1 head, which starts from nothing."""
        return super().noise_shape if self.config.head == "ddim" else None

    def decode(
        self, prefix: Prefix, *, evidence: bool = False, rule: InCallRule | None = None, **options: Any
    ) -> tuple[Tensor, BackboneOutput]:
        """See ``PolicyNetwork``. The l1 head makes one pass with one query token per action and has no noise."""
        if self.config.head == "l1":
            queries = self.action_queries.expand(len(prefix.tokens), -1, -1)
            out = self.run_backbone(prefix, queries, evidence=evidence, rule=rule)
            return self.action_head(out.hidden), out
        return super().decode(prefix, evidence=evidence, rule=rule, **options)

    def predicted_noise(self, hidden: Tensor) -> Tensor:
        return self.action_head(hidden)

    def time_tokens(self, timesteps: Tensor) -> Tensor:
        return self.time_embedder(timestep_features(timesteps).to(self.action_position.dtype))

    def noisy_tokens(self, sample: Tensor, time: Tensor) -> Tensor:
        actions = self.action_embedder(sample.to(self.action_position.dtype)) + self.action_position
        return torch.cat([time[:, None], actions], 1)

    def loss(self, batch: Batch, target: Tensor, draws: int = 1, grounding_weight: float = 0.0) -> Tensor:
        """Training loss. l1: mean absolute error; ddim: error of the noise. Plus that of what is meant, if weighted.

        Args:
            target: (B, chunk, A) normalised. draws: of the ddim head, noisy chunks for each sample. They stand one
                behind the other at the same positions and do not see each other, and so share one run of the prefix.
            grounding_weight: of the loss by which point tokens learn whether they show what is meant.
        """
        prefix, meant = self._tokenize(batch)
        loss = self._action_loss(prefix, target, draws)
        if meant is not None:  # also unweighted: DistributedDataParallel wants a gradient of every parameter
            loss = loss + grounding_weight * _grounding_loss(batch, meant[:, prefix.num_image :])
        return loss

    def _action_loss(self, prefix: Prefix, target: Tensor, draws: int) -> Tensor:
        if self.config.head == "l1":
            return (self.decode(prefix)[0].float() - target).abs().mean()
        target = target.repeat_interleave(draws, 0)  # (B draws, chunk, A)
        t = torch.randint(self.config.ddim_train_steps, (len(target),), device=target.device)
        noise = torch.randn_like(target)
        alpha = self.alphas[t][:, None, None]
        noisy = self.noisy_tokens(alpha.sqrt() * target + (1 - alpha).sqrt() * noise, self.time_tokens(t))
        hidden = self._run_side_by_side(prefix, noisy.unflatten(0, (-1, draws)))
        return (self.action_head(hidden[:, 1:]).float() - noise).square().mean()

    def _run_side_by_side(self, prefix: Prefix, actions: Tensor) -> Tensor:
        """(B, D, Q, width) action segments -> (B D, Q, width), each as if it stood alone behind the prefix."""
        batch_size, draws, length, width = actions.shape
        if draws == 1:
            return self.run_backbone(prefix, actions[:, 0]).hidden
        before = prefix.tokens.shape[1]
        place = torch.arange(before + draws * length, device=actions.device)
        segment = ((place - before) // length).clamp(min=-1)  # -1: the prefix, which everyone sees
        visible = (segment[None] == segment[:, None]) | (segment[None] < 0)
        positions = self.action_positions(batch_size, actions.device).repeat(1, draws)
        out = run_backbone(
            self.backbone, self.final_norm, prefix, actions.flatten(1, 2), positions, mask=visible.tril()
        )
        return out.hidden.reshape(batch_size * draws, length, width)
