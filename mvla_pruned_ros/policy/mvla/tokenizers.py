"""Tokenizers that are local: each visual token is encoded from its own neighbourhood alone.

So a dropped token need not be encoded at all, and encoding after pruning equals pruning after encoding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Fourier(nn.Module):
    """Sines and cosines of metric positions at wavelengths 4 m, 2 m, ... 1.6 cm."""

    frequencies: Tensor

    def __init__(self, octaves: int = 9, longest_m: float = 4.0) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 * math.pi / longest_m * 2.0 ** torch.arange(octaves), persistent=False)

    def size(self, dims: int) -> int:
        return dims * (2 * len(self.frequencies) + 1)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) metres -> (..., D * (2 * octaves + 1))."""
        angle = (x[..., None] * self.frequencies).flatten(-2)
        return torch.cat([x, angle.sin(), angle.cos()], -1)


def gather_tokens(x: Tensor, kept: Tensor | None) -> Tensor:
    """Rows of (B, N, ...) named by (B, M) indices; all of them when ``kept`` is None."""
    if kept is None:
        return x
    index = kept.reshape(*kept.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
    return x.gather(1, index)


class Grounding(nn.Module):
    """Tells each visual token, from its own content and the instruction, whether it shows what is asked for.

    The instruction scales and shifts the token's features (FiLM, Perez et al. 2018, as OpenVLA-OFT does for its image
    encoder). Attention alone has to find both what is meant and where it is from the same few actions, and did not
    begin to within hours of training on two cores.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.text_norm, self.token_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.film = nn.Linear(width, 2 * width)
        self.mix = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.meant = nn.Linear(width, 1)

    def forward(self, tokens: Tensor, words: Tensor, is_word: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            tokens: (B, M, width) visual. words: (B, L, width) embeddings of the instruction. is_word: (B, L) bool.

        Returns:
            (B, M, width) tokens, and (B, M) the logit that a token shows what is meant, for training.
        """
        weight = is_word[..., None].to(words.dtype)
        text = self.text_norm((words * weight).sum(1) / weight.sum(1).clamp(min=1))
        scale, shift = self.film(text)[:, None].chunk(2, -1)
        hidden = nn.functional.gelu(self.token_norm(tokens) * (1 + scale) + shift)
        hidden = nn.functional.gelu(self.mix(hidden))
        return tokens + self.out(hidden), self.meant(hidden)[..., 0]


class ImageTokenizer(nn.Module):
    """Patches of all views, each through a two-layer convolution of its own pixels."""

    def __init__(self, views: int, grid: int, patch_size: int, width: int, channels: int = 32) -> None:
        super().__init__()
        self.grid, self.patch = grid, patch_size
        # A 4 x 4 convolution of stride 4 inside the patch, written as a matrix over sub-patches.
        self.stem = nn.Linear(3 * 16, channels)
        self.project = nn.Linear(channels * (patch_size // 4) ** 2, width)
        self.position = nn.Parameter(torch.randn(views * grid * grid, width) * 0.02)

    def forward(self, image: Tensor, kept: Tensor | None = None) -> Tensor:
        """(B, V, S, S, 3) uint8 and (B, M) indices into the V x grid x grid patches -> (B, M, width)."""
        b, v, g, s = *image.shape[:2], self.grid, self.patch // 4
        patches = image.view(b, v, g, s, 4, g, s, 4, 3).permute(0, 1, 2, 5, 3, 6, 4, 7, 8)
        patches = gather_tokens(patches.reshape(b, v * g * g, s * s, 48), kept)
        pixels = patches.to(self.stem.weight.dtype) * (1 / 127.5) - 1
        tokens = self.project(nn.functional.gelu(self.stem(pixels)).flatten(2))
        position = self.position if kept is None else self.position[kept]
        return tokens + position


class PointTokenizer(nn.Module):
    """Groups of points, each through a small PointNet of its own neighbours, plus where its centre is.

    The centre is given in the base frame and relative to the end effector: what an arm does next depends on the
    way that is left, and learning the difference of two absolute positions takes many more samples (ours).
    """

    def __init__(self, width: int, radius: float, colour: bool, hidden: int = 64) -> None:
        super().__init__()
        self.radius = radius
        self.point = nn.Sequential(nn.Linear(3, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.fourier = Fourier()
        self.project = nn.Linear(hidden + 2 * self.fourier.size(3), width)
        self.colour = nn.Sequential(nn.Linear(3, hidden), nn.GELU(), nn.Linear(hidden, width)) if colour else None

    def forward(
        self, centres: Tensor, groups: Tensor, end_effector: Tensor, kept: Tensor | None = None,
        colours: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """(B, G, 3) metres, (B, G, K, 3) metres relative, (B, 3) metres, (B, M) group indices, (B, G, 3) uint8 RGB
        where they are taken -> (B, M, width)."""
        centres, groups = gather_tokens(centres, kept), gather_tokens(groups, kept)
        dtype = self.project.weight.dtype
        shape = nn.functional.gelu(self.point(groups.to(dtype) / self.radius).amax(2))
        # Positions are expanded in fp32: a centimetre is lost in bf16.
        absolute, relative = self.fourier(centres.float()), self.fourier((centres - end_effector[:, None]).float())
        tokens = self.project(torch.cat([shape, absolute.to(dtype), relative.to(dtype)], -1))
        if self.colour is None:
            return tokens
        assert colours is not None
        return tokens + self.colour(gather_tokens(colours, kept).to(dtype) * (1 / 127.5) - 1)
