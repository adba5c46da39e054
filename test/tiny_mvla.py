"""A network of three layers with random weights, and inputs for it."""

from __future__ import annotations

import torch

from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.mvla.model import Batch, MVLAModel


def make_model(head: str) -> MVLAModel:
    """16 image and 10 point tokens."""
    torch.manual_seed(0)
    config = MVLAConfig(
        image_size=64, num_groups=10, group_size=6, width=32, depth=3, heads=4, mlp_width=48, chunk_size=5,
        instruction_length=4, evidence_layers=(1, 2), head=head,
    )  # fmt: skip
    return MVLAModel(config, vocabulary=11).eval().requires_grad_(False)


def make_batch(seed: int = 3, samples: int = 1) -> Batch:
    """Inputs with all tokens."""
    g = torch.Generator().manual_seed(seed)
    return Batch(
        image=torch.randint(0, 256, (samples, 1, 64, 64, 3), generator=g, dtype=torch.uint8),
        centres=torch.rand(samples, 10, 3, generator=g),
        groups=torch.randn(samples, 10, 6, 3, generator=g) * 0.02,
        proprio=torch.rand(samples, 4, generator=g),
        end_effector=torch.rand(samples, 3, generator=g),
        instruction=torch.randint(0, 11, (samples, 4), generator=g),
    )
