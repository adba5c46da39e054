"""MLA's small networks around the backbone: projectors, embedders and the head that predicts the noise.

After `models/diffusion/models.py` and `util/nn_utils.py` of upstream (commit 072f5d8).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..engine.diffusion import timestep_features


def projector(width: int, out: int) -> nn.Sequential:
    """Tower tokens -> backbone tokens."""
    return nn.Sequential(nn.Linear(width, out), nn.GELU(), nn.Linear(out, out))


def embedder(size: int, width: int, out: int) -> nn.Sequential:
    """Proprio or noisy action -> token, and token -> noise."""
    return nn.Sequential(nn.Linear(size, width), nn.GELU("tanh"), nn.Linear(width, out))


class TimeEmbedder(nn.Module):
    """Diffusion timestep -> token."""

    def __init__(self, width: int, features: int = 256) -> None:
        super().__init__()
        self.features = features
        self.mlp = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, timestep: Tensor) -> Tensor:
        """(B,) -> (B, width)."""
        dtype = next(self.mlp.parameters()).dtype
        return self.mlp(timestep_features(timestep, self.features).to(dtype))


class NoiseHead(nn.Module):
    """Backbone features -> predicted noise.

    What upstream calls an RMS norm (timm 0.9.10, the version it pins) divides by the unbiased standard deviation
    around the mean and does not subtract that mean; weights are trained with it, so it is done the same way here.
    """

    def __init__(self, width: int, action_dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(width))
        self.mlp = embedder(width, width, action_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Q, width) -> (B, Q, A)."""
        normal = x * torch.rsqrt(x.var(-1, keepdim=True) + self.eps)
        return self.mlp(normal * self.scale)
