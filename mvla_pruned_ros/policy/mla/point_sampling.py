"""Point sampling on tensors, for clouds that are on the GPU already; no value is read back to the host.

The same rules as in ``geometry``, batched; tests hold the two together.
"""

from __future__ import annotations

import torch
from torch import Tensor


def farthest_point_sample(points: Tensor, count: int, start: Tensor | None = None) -> Tensor:
    """Spread-out subsets.

    Args:
        points: (B, N, 3), N >= ``count`` for distinct picks. count: how many.
        start: (B,) int64 first picks; None starts from the point farthest from the centroid, as ``geometry`` does.

    Returns:
        (B, count) int64 indices in the order they were picked. When N < count they repeat from the start.
    """
    if start is None:
        start = (points - points.mean(1, keepdim=True)).square().sum(-1).argmax(1)
    distinct = min(count, points.shape[1])
    picked = start.new_empty(distinct, len(points))
    picked[0] = start
    nearest = points.new_full(points.shape[:2], float("inf"))
    for i in range(1, distinct):
        last = points.gather(1, picked[i - 1, :, None, None].expand(-1, 1, 3))
        nearest = torch.minimum(nearest, (points - last).square().sum(-1))
        torch.argmax(nearest, 1, out=picked[i])
    return picked[torch.arange(count, device=picked.device) % distinct].T
