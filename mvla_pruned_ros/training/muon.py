"""Muon in fp32.

``torch.optim.Muon`` orthogonalises in bf16. On a CPU that has no bf16 arithmetic that takes nearly as long as forward
and backward pass together; in fp32 it is a few per cent of a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Of the quintic iteration of Jordan et al. 2024, as in torch.optim.Muon.
COEFFICIENTS = (3.4445, -4.775, 2.0315)
STEPS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """(M, N) -> U V^T of its singular value decomposition, singular values between 0.7 and 1.2 (Newton-Schulz)."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum (Jordan et al. 2024) for matrices.

    Updates are as large as AdamW's (Liu et al. 2025): ``adjust_lr_fn="match_rms_adamw"`` of ``torch.optim.Muon``, to
    which this is equal but for the precision.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95):
        """Raises ValueError for a parameter that is no matrix."""
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"Muon trains matrices, got a parameter of shape {tuple(p.shape)}")

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            momentum, rate = group["momentum"], group["lr"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p.grad))
                buffer.lerp_(p.grad, 1 - momentum)
                update = orthogonalise(p.grad.lerp(buffer, momentum).float())
                p.mul_(1 - rate * group["weight_decay"])
                p.add_(update, alpha=-rate * 0.2 * math.sqrt(max(p.shape)))
