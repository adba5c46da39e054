"""The MVLA network: tokenizers, Llama backbone, action head. Tensors in, tensors out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaModel

from ..pruning.in_call import CallView, FixedChoice, InCallRule
from .attention import NAME, AttentionRows
from .config import MVLAConfig
from .tokenizers import Fourier, ImageTokenizer, PointTokenizer


@dataclass
class Batch:
    """Inputs of B samples.

    Attributes:
        image: (B, S, S, 3) uint8.
        centres: (B, G, 3) float32, metres. groups: (B, G, K, 3), metres, relative.
        proprio: (B, P) float32. instruction: (B, L) int64 token ids.
        image_kept: (B, M2) int64 ascending indices of the patches that stay, None for all; points_kept likewise.
    """

    image: Tensor
    centres: Tensor
    groups: Tensor
    proprio: Tensor
    instruction: Tensor
    image_kept: Tensor | None = None
    points_kept: Tensor | None = None


@dataclass
class Prefix:
    """Everything that stands before the action tokens.

    Attributes:
        tokens: (B, T, width) embeddings. positions: (B, T) int64, those of the unpruned sequence.
        visual: (M2 + M3,) int64 indices into T of the visual tokens, image first.
        num_image: M2.
    """

    tokens: Tensor
    positions: Tensor
    visual: Tensor
    num_image: int

    def keep_visual(self, chosen: Tensor) -> tuple[Prefix, Tensor]:
        """This prefix with the visual tokens of (M,) ascending ``chosen`` only, and the indices into T that stay."""
        stays = torch.ones(self.tokens.shape[1], dtype=torch.bool, device=chosen.device)
        stays[self.visual] = False
        stays[self.visual[chosen]] = True
        kept = stays.nonzero()[:, 0]
        visual = (stays.cumsum(0) - 1)[self.visual[chosen]]
        num_image = int((chosen < self.num_image).sum())
        return Prefix(self.tokens[:, kept], self.positions[:, kept], visual, num_image), kept


@dataclass
class BackboneOutput:
    """hidden: (B, Q, width) of the action segment, after the final norm; norm, attention: (B, M2 + M3) evidence,
    None unless asked for; chosen: (M,) visual tokens that a rule left, None without a rule."""

    hidden: Tensor
    norm: Tensor | None = None
    attention: Tensor | None = None
    chosen: Tensor | None = None


def cosine_alphas(steps: int) -> Tensor:
    """Cumulative alphas of the ``squaredcos_cap_v2`` schedule (Nichol and Dhariwal 2021), as MLA uses it."""

    def bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - bar((i + 1) / steps) / bar(i / steps), 0.999) for i in range(steps)]
    return torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0).float()


def ddim_timesteps(train_steps: int, steps: int) -> list[int]:
    """Descending timesteps at the smallest even stride that gives ``steps`` of them (100, 8 -> 91, 78, ... 13, 0).

    Raises:
        ValueError: no stride gives that many.
    """
    for stride in range(1, train_steps + 1):
        times = range(0, train_steps, stride)
        if len(times) == steps:
            return list(times)[::-1]
    raise ValueError(f"no even stride gives {steps} of {train_steps} diffusion steps")


class MVLAModel(nn.Module):
    """Weights of an MVLA policy. All vectors it takes and gives are normalised except proprio and points (metres)."""

    alphas: Tensor

    def __init__(self, config: MVLAConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.image_tokenizer = ImageTokenizer(config.grid, config.patch_size, w)
        self.point_tokenizer = PointTokenizer(w, config.group_radius)
        self.proprio_fourier = Fourier()
        self.proprio_embedder = nn.Sequential(
            nn.Linear(self.proprio_fourier.size(config.proprio_dim), w), nn.GELU(), nn.Linear(w, w)
        )
        self.backbone = LlamaModel(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=w,
                intermediate_size=config.mlp_width,
                num_hidden_layers=config.depth,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                max_position_embeddings=4096,
                attn_implementation=NAME,
                use_cache=False,
            )
        )
        # Evidence needs the features before the final norm, the head those after it: so the norm is applied here.
        self.final_norm, self.backbone.norm = self.backbone.norm, nn.Identity()
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
                tokens = self.point_tokenizer(batch.centres, batch.groups, batch.proprio[:, :3], batch.points_kept)
                kept = batch.points_kept
            if kept is None:
                kept = torch.arange(tokens.shape[1], device=device).expand(len(tokens), -1)
            pieces.append(tokens)
            positions.append(kept + self.config.segment_start(segment))
            spans[segment] = torch.arange(length, length + tokens.shape[1], device=device)
            length += tokens.shape[1]
        visual = torch.cat([spans["image"], spans["points"]])
        return Prefix(torch.cat(pieces, 1), torch.cat(positions, 1), visual, len(spans["image"]))

    def _proprio_features(self, proprio: Tensor) -> Tensor:
        return self.proprio_fourier(proprio.float()).to(self.proprio_embedder[0].weight.dtype)

    def action_positions(self, batch_size: int, device: torch.device) -> Tensor:
        """(B, Q) positions of the action segment; they do not move when tokens before it are dropped."""
        start = self.config.segment_start("action")
        return torch.arange(start, start + self.config.segment_length("action"), device=device).expand(batch_size, -1)

    def run_backbone(
        self,
        prefix: Prefix,
        action: Tensor,
        *,
        evidence: bool = False,
        cache: DynamicCache | None = None,
        rule: InCallRule | None = None,
    ) -> BackboneOutput:
        """Prefix and action tokens through the backbone.

        Args:
            prefix: from ``tokenize``. action: (B, Q, width) embeddings of the action segment.
            evidence: also return what pruning learns from.
            cache: prefix cache of this call. Empty: it is filled with the prefix. Filled: only the action tokens
                run, with the same result within float tolerance; then there is no norm evidence, and it is left
                as it was found.
            rule: drops visual tokens after its layer (batch 1); not with a filled cache, which holds the choice.
        """
        cfg, queries = self.config, action.shape[1]
        action_positions = self.action_positions(len(action), action.device)
        filled = cache.get_seq_length() if cache is not None else 0
        hidden = action if filled else torch.cat([prefix.tokens, action], 1)
        positions = action_positions if filled else torch.cat([prefix.positions, action_positions], 1)
        rows = AttentionRows(cfg.evidence_layers, cfg.chunk_size) if evidence else None
        rope, chosen = self.backbone.rotary_emb(hidden, positions), None
        # The loop of LlamaModel.forward, less what a pruned sequence has no use for.
        for index, layer in enumerate(self.backbone.layers):
            readers = [] if rows is None else [rows]
            if rule is not None and index + 1 == rule.layer:
                readers.append(rule_rows := AttentionRows((index,), queries, per_row=True))
            hidden = layer(hidden, position_embeddings=rope, past_key_values=cache, use_cache=cache is not None,
                           attention_rows=readers)  # fmt: skip
            if rule is not None and index + 1 == rule.layer:
                attention = rule_rows.collected[0][0][:, prefix.visual]
                chosen = rule.choose(self.call_view(prefix, attention))
                prefix, kept = prefix.keep_visual(chosen)
                ends = torch.arange(-queries, 0, device=kept.device) + hidden.shape[1]
                kept = torch.cat([kept, ends])
                hidden, rope = hidden[:, kept], (rope[0][:, kept], rope[1][:, kept])
        if cache is not None:
            cache.crop(-queries)
        out = BackboneOutput(self.final_norm(hidden[:, -queries:]), chosen=chosen)
        if rows is not None:
            out.attention = rows.mean()[:, prefix.visual]
            out.norm = None if filled else hidden[:, prefix.visual].abs().mean(-1).float()
        return out

    def call_view(self, prefix: Prefix, attention: Tensor | None = None) -> CallView:
        """What a rule may look at (batch 1). prefix: as it enters the backbone. attention: see ``CallView``."""
        start = self.config.segment_start("instruction")
        is_text = (prefix.positions[0] >= start) & (prefix.positions[0] < start + self.config.instruction_length)
        text = prefix.tokens[0, is_text]
        visual = prefix.tokens[0, prefix.visual]

        def text_scores() -> Tensor:
            first = self.backbone.layers[0]
            query = first.self_attn.q_proj(first.input_layernorm(text)).unflatten(-1, (self.config.heads, -1))
            key = first.self_attn.k_proj(first.input_layernorm(visual)).unflatten(-1, (self.config.heads, -1))
            return torch.einsum("lhd,nhd->n", query.float(), key.float()) / (len(text) * self.config.heads)

        return CallView(visual, prefix.num_image, text, attention, text_scores)

    def predict(
        self, batch: Batch, *, evidence: bool = False, noise: Tensor | None = None
    ) -> tuple[Tensor, BackboneOutput]:
        """Normalised action chunk (B, chunk, A) and the backbone's output (evidence of the first pass).

        Args:
            noise: (B, chunk, A) start of the ddim head; drawn when None. The l1 head has none.
        """
        prefix = self.tokenize(batch)
        if self.config.head == "l1":
            return self.decode_l1(prefix, evidence=evidence)
        return self.decode_ddim(prefix, evidence=evidence, noise=noise)

    def decode_l1(
        self, prefix: Prefix, *, evidence: bool = False, rule: InCallRule | None = None
    ) -> tuple[Tensor, BackboneOutput]:
        """One pass, one query token per action."""
        queries = self.action_queries.expand(len(prefix.tokens), -1, -1)
        out = self.run_backbone(prefix, queries, evidence=evidence, rule=rule)
        return self.action_head(out.hidden), out

    def decode_ddim(
        self,
        prefix: Prefix,
        *,
        evidence: bool = False,
        noise: Tensor | None = None,
        reuse_prefix: bool = True,
        rule: InCallRule | None = None,
        retokenize: Callable[[], Prefix] | None = None,
    ) -> tuple[Tensor, BackboneOutput]:
        """DDIM, eta 0. Everything before the timestep token is the same at every step, so it runs once (exact).

        A rule chooses in the first step; the others keep its choice.

        Args:
            retokenize: with ``reuse_prefix`` off, called before every step but the first: upstream encodes its inputs
                anew at each.
        """
        cfg = self.config
        shape = (len(prefix.tokens), cfg.chunk_size, cfg.action_dim)
        sample = torch.randn(shape, device=prefix.tokens.device) if noise is None else noise
        cache = DynamicCache(config=self.backbone.config) if reuse_prefix else None
        first: BackboneOutput | None = None
        for t, after in zip(self.timesteps, [*self.timesteps[1:], -1]):
            if retokenize is not None and first is not None:
                prefix = retokenize()
            out = self.run_backbone(
                prefix,
                self._noisy_tokens(sample, torch.full((shape[0],), t, device=sample.device)),
                evidence=evidence and first is None,
                cache=cache,
                rule=rule,
            )
            first = first or out
            if rule is not None and out.chosen is not None:
                rule = None if reuse_prefix else FixedChoice(rule.layer, out.chosen)
            noise_hat = self.action_head(out.hidden[:, 1:]).float()
            alpha, alpha_after = self.alphas[t], self.alphas[after] if after >= 0 else torch.ones(())
            clean = (sample - (1 - alpha).sqrt() * noise_hat) / alpha.sqrt()
            sample = alpha_after.sqrt() * clean + (1 - alpha_after).sqrt() * noise_hat
        assert first is not None
        return sample, first

    def _noisy_tokens(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """(B, chunk, A) and (B,) -> (B, 1 + chunk, width): timestep token, then one token per noisy action."""
        dtype = self.action_position.dtype
        frequencies = torch.exp(-math.log(10000) / 128 * torch.arange(128, device=sample.device))
        angle = timestep[:, None].float() * frequencies
        time = self.time_embedder(torch.cat([angle.cos(), angle.sin()], -1).to(dtype))[:, None]
        return torch.cat([time, self.action_embedder(sample.to(dtype)) + self.action_position], 1)

    def loss(self, batch: Batch, target: Tensor) -> Tensor:
        """Training loss. target: (B, chunk, A) normalised. l1: mean absolute error; ddim: error of the noise."""
        prefix = self.tokenize(batch)
        if self.config.head == "l1":
            return (self.decode_l1(prefix)[0].float() - target).abs().mean()
        t = torch.randint(self.config.ddim_train_steps, (len(target),), device=target.device)
        noise = torch.randn_like(target)
        alpha = self.alphas[t][:, None, None]
        noisy = alpha.sqrt() * target + (1 - alpha).sqrt() * noise
        out = self.run_backbone(prefix, self._noisy_tokens(noisy, t))
        return (self.action_head(out.hidden[:, 1:]).float() - noise).square().mean()
