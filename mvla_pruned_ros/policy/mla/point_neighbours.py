"""Nearest neighbours of points as MLA's 3D tower finds them, digit for digit."""

from __future__ import annotations

from torch import Tensor


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
    width = values.shape[-1]  # -1 would not be clear where no point stays
    return values.gather(1, flat[..., None].expand(-1, -1, width)).view(*index.shape, width)
