"""Farthest point sampling and nearest neighbours in torch, as MLA's 3D tower uses them."""

from __future__ import annotations

import torch
from torch import Tensor


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Spread-out subset of every cloud, starting from its point 0 (upstream starts anywhere; ours is repeatable).

    No value is read back by the host, so that on a GPU the whole loop is only enqueued.

    Args:
        points: (B, N, 3) float32, metres. count: at most N.

    Returns:
        (B, count) int64 indices, in the order in which they were picked.
    """
    nearest = points.new_full(points.shape[:2], 1e10)
    index = points.new_zeros((len(points), 1), dtype=torch.int64)
    picked = []
    for _ in range(count):
        picked.append(index)
        centre = points.gather(1, index[..., None].expand(-1, -1, 3))
        nearest = torch.minimum(nearest, (points - centre).square().sum(-1))
        index = nearest.argmax(1, keepdim=True)
    return torch.cat(picked, 1)


def squared_distances(one: Tensor, other: Tensor) -> Tensor:
    """(B, M, 3), (B, N, 3) -> (B, M, N), in upstream's order of operations.

    The difference of large squares loses digits, enough to change who is the 81st neighbour; so the order is kept.
    """
    distance = -2 * one @ other.transpose(1, 2)
    distance += one.square().sum(-1)[:, :, None]
    distance += other.square().sum(-1)[:, None]
    return distance


def nearest(distance: Tensor, count: int) -> Tensor:
    """(B, M, N) distances -> (B, M, count) int64 indices of the smallest, in no order."""
    return distance.topk(count, dim=-1, largest=False, sorted=False).indices


def take(values: Tensor, index: Tensor) -> Tensor:
    """(B, N, C) and (B, ...) indices into N -> (B, ..., C)."""
    flat = index.flatten(1)
    return values.gather(1, flat[..., None].expand(-1, -1, values.shape[-1])).view(*index.shape, -1)
