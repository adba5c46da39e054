"""What a policy call costs in operations and bytes, from the configuration and the number of tokens alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ...policy.engine.config import PolicyConfig
from ...policy.engine.stage_timer import StageTimer


@dataclass(frozen=True)
class Pass:
    """One pass through the backbone. flops: multiplications and additions. bytes: weights, keys and values that have
    to come from memory or go there."""

    flops: float
    bytes: float


@dataclass(frozen=True)
class Floor:
    """What the machine can do at best, measured.

    Attributes:
        matmul: floating-point operations per second of a large matrix product.
        copy: bytes per second, read and written.
    """

    matmul: float
    copy: float

    def ms(self, passes: list[Pass]) -> float:
        """Least milliseconds of passes that follow each other.

        Of each it is the larger of operations over the rate of a large matrix product and bytes over the rate of a
        copy. Methods that cut inside the backbone are counted as if they had cut before it, so theirs is a little low.
        """
        return 1e3 * sum(max(p.flops / self.matmul, p.bytes / self.copy) for p in passes)


def backbone_passes(
    sizes: PolicyConfig, prefix: int, queries: int, steps: int, recompute: bool, itemsize: int, rows: int
) -> list[Pass]:
    """The passes of one call.

    Matrix products only, all heads with keys of their own. Attention counts every query times every key, as torch's
    flop counter does; the causal half is not taken off.

    Args:
        prefix: tokens before the action segment. queries: tokens of the action segment. steps: denoising steps, 1
            for a head of one pass. recompute: the prefix runs at each step. itemsize: bytes of one number.
        rows: of attention that are read as evidence in the first pass.
    """
    w, length, mlp = sizes.width, prefix + queries, 3 * sizes.width * sizes.mlp_width
    per_query = 2 * (w * w + mlp) + 4 * length * w  # output of the attention, MLP, the attention itself
    weights = itemsize * sizes.depth * (4 * w * w + mlp)
    keys_and_values = itemsize * sizes.depth * 2 * length * w
    passes = []
    for step in range(steps):
        tokens = length if recompute or step == 0 else queries
        flops = sizes.depth * tokens * 6 * w * w  # queries, keys and values of all
        flops += ((sizes.depth - 1) * tokens + queries) * per_query  # the last layer runs on the action tokens alone
        if step == 0:
            flops += len(sizes.evidence_layers) * 2 * rows * length * w
        passes.append(Pass(flops, weights + keys_and_values))
    return passes


def measure_floor(device: torch.device, dtype: torch.dtype, repeats: int = 7) -> Floor:
    """Best of some large matrix products and copies, in the policy's precision and with its threads."""
    n, size = (8192, 2**30) if device.type == "cuda" else (1024, 2**27)
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return Floor(
        matmul=2 * n**3 / _best_s(lambda: torch.mm(a, b), device, repeats),
        copy=2 * size / _best_s(lambda: target.copy_(source), device, repeats),
    )


def _best_s(function: Callable[[], Any], device: torch.device, repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        timer = StageTimer(device)
        with timer.stage("run"):
            function()
        best = min(best, timer.ms["run"] / 1e3)
    return best
