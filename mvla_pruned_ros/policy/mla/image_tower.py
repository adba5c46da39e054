"""MLA's 2D tower: a token from a window of patches, each encoded from its own pixels only.

After `models/mla/image/vision_tokenizer.py` of upstream (commit 072f5d8), less its class token and split embedding,
which are computed there and thrown away.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from ..mvla.tokenizers import gather_tokens

# Of CLIP's preprocessing.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


@cache
def _pixel_statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """(3, 1) mean and deviation of CLIP's pixels; kept, because copying them to a GPU anew makes the host wait."""
    return torch.tensor(PIXEL_MEAN, device=device)[:, None], torch.tensor(PIXEL_STD, device=device)[:, None]


class ImageTower(nn.Module):
    """Patches through one linear map, then attention of their mean to themselves inside every window.

    Windows do not see each other, so a dropped token costs nothing: of its pixels none is read.
    """

    def __init__(self, grid: int, patch_size: int, window: int, width: int, heads: int) -> None:
        super().__init__()
        self.grid, self.patch_size, self.window, self.heads = grid, patch_size, window, heads
        self.patch = nn.Linear(3 * patch_size**2, width, bias=False)  # upstream's strided convolution
        self.query_norm, self.query = nn.LayerNorm(width), nn.Linear(width, width, bias=False)
        self.key_value_norm, self.key_value = nn.LayerNorm(width), nn.Linear(width, 2 * width, bias=False)
        self.project = nn.Linear(width, width)

    def forward(self, image: Tensor, kept: Tensor | None = None) -> Tensor:
        """(B, V, S, S, 3) uint8 RGB views, (B, M) indices into the V x grid x grid tokens -> (B, M, width)."""
        b, v, g, w, p = *image.shape[:2], self.grid, self.window, self.patch_size
        windows = image.view(b, v, g, w, p, g, w, p, 3).permute(0, 1, 2, 5, 3, 6, 8, 4, 7)
        windows = gather_tokens(windows.reshape(b, v * g * g, w * w, 3, p * p), kept)
        mean, std = _pixel_statistics(image.device)
        pixels = ((windows * (1 / 255) - mean) / std).flatten(3)
        return self._attend(self.patch(pixels.to(self.patch.weight.dtype)))

    def _attend(self, patches: Tensor) -> Tensor:
        """(B, M, W * W, width) -> (B, M, width)."""
        pooled = patches.mean(2)
        query = self.query(self.query_norm(pooled)).unflatten(-1, (self.heads, -1))[:, :, None]
        key, value = self.key_value(self.key_value_norm(patches)).unflatten(-1, (2, self.heads, -1)).unbind(3)
        scale = patches.shape[-1] ** -0.5  # of the whole width, not of a head's
        weight = (query * scale * key).sum(-1).softmax(2)
        return pooled + self.project((weight[..., None] * value).sum(2).flatten(2))
