"""MLA's 3D tower: two stages of farthest point sampling, neighbours and local geometry aggregation.

After `models/mla/pointcloud/backbone/Point_PN.py` of upstream (commit 072f5d8; Point-PN, arXiv 2303.08134). Its batch
normalisations are folded into the linear maps before them when a checkpoint is converted, which changes nothing at
inference.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..mvla.tokenizers import gather_tokens
from .point_neighbours import nearest, squared_distances, take
from .point_sampling import farthest_point_sample

ALPHA, BETA = 1000.0, 100.0  # span of wavelengths and scale of the position encoding
BLOCKS = (2, 1)  # residual blocks of each stage


class Residual(nn.Module):
    """Two linear maps beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, width // 2), nn.Linear(width // 2, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return (self.up(self.down(x).relu()) + x).relu()


class Aggregation(nn.Module):
    """One stage: features of a group from those of its neighbours and from where they lie."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.width = width
        self.blocks = nn.Sequential(*[Residual(width) for _ in range(blocks)])

    def forward(self, centre: Tensor, centre_features: Tensor, near: Tensor, near_features: Tensor) -> Tensor:
        """(B, G, 3) metres, (B, G, width / 2), (B, G, K, 3) metres, (B, G, K, width / 2) -> (B, G, width)."""
        relative = near - centre[:, :, None]
        relative = relative / relative.abs().amax(2, keepdim=True).clamp(min=1e-6)
        beside = centre_features[:, :, None].expand_as(near_features)
        features = torch.cat([near_features, beside], -1) + self.encode(relative).to(near_features.dtype)
        return self.blocks(features).amax(2)

    def encode(self, relative: Tensor) -> Tensor:
        """(..., 3) in [-1, 1] -> (..., width), in fp32: at a scale of 100 rad bf16 would be noise."""
        count = self.width // 6
        wavelength = ALPHA ** (torch.arange(count, dtype=torch.float32, device=relative.device) / count)
        angle = BETA * relative[..., None] / wavelength
        return torch.cat([angle.sin(), angle.cos()], -1).flatten(-2)


def sample_groups(points: Tensor) -> tuple[Tensor, Tensor]:
    """Farthest point sampling of both stages, each starting from its point 0 (upstream: from any, anew at every pass).

    Args:
        points: (B, N, 3) float32, metres.

    Returns:
        (B, N / 2) int64 indices into the points, and (B, N / 4) int64 indices into the first: the groups.
    """
    start = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    first = farthest_point_sample(points, points.shape[1] // 2, start)
    return first, farthest_point_sample(take(points, first), points.shape[1] // 4, start)


class PointTower(nn.Module):
    """Tokens of the groups that stay.

    The first stage runs on all of its groups: those that an eighth of the tokens are made of are nine tenths of them,
    and counting them would make the host wait for the device.
    """

    def __init__(self, width: int, token_width: int, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.point = nn.Linear(3, width)
        self.stages = nn.ModuleList([Aggregation(width << i, blocks) for i, blocks in enumerate(BLOCKS, 1)])
        self.project = nn.Linear(4 * width, token_width)

    def forward(self, points: Tensor, first: Tensor, second: Tensor, kept: Tensor | None = None) -> Tensor:
        """
        Args:
            points: (B, N, 3) float32, metres. first: (B, N / 2) indices into the points, see ``sample_groups``.
            second: (B, N / 4) indices into ``first``, the groups. kept: (B, M) groups that stay, None for all.

        Returns:
            (B, M, token_width).
        """
        features = self.point(points.to(self.point.weight.dtype)).relu()
        coarse = take(points, first)
        centres = take(coarse, second)
        near = nearest(gather_tokens(squared_distances(centres, coarse), kept), self.neighbours)
        own = gather_tokens(second, kept)
        near_first = nearest(squared_distances(coarse, points), self.neighbours)
        coarse_features = self.stages[0](
            coarse, take(features, first), take(points, near_first), take(features, near_first)
        )
        tokens = self.stages[1](
            take(coarse, own), take(coarse_features, own), take(coarse, near), take(coarse_features, near)
        )
        return self.project(tokens)
