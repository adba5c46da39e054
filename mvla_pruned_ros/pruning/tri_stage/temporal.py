"""Stage III: salience over time. Smoothed, carried through space to the next call, with dropped tokens kept in mind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..types import TokenLayout
from .config import Lengths

STILL = 1e-4  # m, and entries of the rotation matrix: a camera that moves by less stands still
NEIGHBOURS = 3  # old point groups that a new one inherits from
SOFTENED = 1 / 8  # of the distance of a match: nearer than this, the nearest of them counts little more than the next


@dataclass(frozen=True)
class SalienceMemory:
    """What is believed about the tokens of one call.

    Attributes:
        layout: where they lay.
        salience: (N,) float64, sums to 1 over all tokens. A dropped token keeps its value: decaying it would make
            one wrong drop permanent.
        age: (N,) int64, calls since each was last in the backbone; 0 for those of the last call.
    """

    layout: TokenLayout
    salience: np.ndarray
    age: np.ndarray

    @classmethod
    def seen(cls, layout: TokenLayout, attention: np.ndarray) -> SalienceMemory:
        """Memory after a full call. attention: (N,)."""
        total = attention.sum()
        uniform = np.full(len(attention), 1 / len(attention))
        salience = attention.astype(np.float64) / total if total > 0 else uniform
        return cls(layout, salience, np.zeros(len(attention), np.int64))


def carry(memory: SalienceMemory, layout: TokenLayout, lengths: Lengths) -> SalienceMemory:
    """Predict the salience of the tokens of the next call.

    Salience lives in space: point token j is another group in every frame, and a patch shows another part of a
    moving arm. So a new token takes the value of the old tokens nearest to it, after those near the end effector
    have been moved along with it (the displacement is known from proprio). Patches without a position
    (background) keep the value of their own index where the camera of their view stands still; where it moved, nothing
    is known of them, as of patches that show what no patch showed before: they are believed to be like the mean patch
    of their view, and to be unseen for longest.

    Args:
        memory: of the last call. layout: of the call to come; grids must agree.
        lengths: what is nearer to the end effector than ``robot`` moves with it; a patch that is farther than ``match``
            from every patch of the last call keeps the memory of its own index.
    """
    old, n2 = memory.layout, layout.num_image
    moved = old.positions.astype(np.float64)
    x, y, z = (moved - old.end_effector).T
    near = np.sqrt(x * x + y * y + z * z) <= lengths.robot  # false where there is no position
    moved[near] += layout.end_effector - old.end_effector
    salience = np.concatenate([memory.salience[:n2], np.zeros(layout.num_points)])
    age = np.concatenate([memory.age[:n2], np.zeros(layout.num_points, np.int64)])

    still = np.abs(old.camera_poses - layout.camera_poses).max((1, 2)) <= STILL
    for view, stands_still in zip(layout.view_slices, still):
        first = view.start
        if not stands_still:
            salience[view], age[view] = memory.salience[view].mean(), memory.age.max() + 1
        old_patches, new_patches = _located(moved[view]) + first, _located(layout.image_positions[view]) + first
        if len(old_patches) and len(new_patches):
            distance, nearest = cKDTree(moved[old_patches]).query(layout.image_positions[new_patches])
            match = distance <= lengths.match
            now, then = new_patches[match], old_patches[nearest[match]]
            salience[now] = memory.salience[then]
            if not stands_still:
                age[now] = memory.age[then]

    if old.num_points and layout.num_points:
        k = min(NEIGHBOURS, old.num_points)
        distance, nearest = cKDTree(moved[n2:]).query(layout.point_positions, k)
        distance, nearest = distance.reshape(-1, k), nearest.reshape(-1, k)
        weight = 1 / (distance**2 + (SOFTENED * lengths.match) ** 2)
        weight /= weight.sum(1, keepdims=True)
        salience[n2:] = (weight * memory.salience[n2:][nearest]).sum(1)
        age[n2:] = memory.age[n2:][nearest[:, 0]]
    return SalienceMemory(layout, salience / max(salience.sum(), 1e-12), age)


def _located(positions: np.ndarray) -> np.ndarray:
    """Indices of (N, 3) positions that are finite."""
    finite = np.isfinite(positions)
    return np.flatnonzero(finite[:, 0] & finite[:, 1] & finite[:, 2])


def update(
    predicted: SalienceMemory, kept: np.ndarray, attention: np.ndarray, smoothing: float, segment_threshold: float
) -> tuple[SalienceMemory, bool]:
    """Take in the evidence of a call.

    What was seen is rescaled to the mass that had been predicted for it: attention in a pruned call is shared by
    fewer tokens and says nothing about those that were absent.

    Args:
        predicted: for this call. kept: (N,) bool, tokens that were in it. attention: (kept,) of those.
        smoothing: weight of the new evidence, 0..1.
        segment_threshold: total variation between prediction and evidence beyond which a new segment of the
            episode begins; then the new evidence replaces the old.

    Returns:
        The new memory, and whether a segment began.
    """
    salience, age = predicted.salience.copy(), predicted.age + 1
    age[kept] = 0
    mass, total = salience[kept].sum(), attention.sum()
    if total <= 0 or mass <= 0:
        return SalienceMemory(predicted.layout, salience, age), False
    seen = attention / total * mass
    variation = 0.5 * float(np.abs(seen - salience[kept]).sum() / mass)
    new_segment = variation > segment_threshold
    weight = 1.0 if new_segment else smoothing
    salience[kept] = (1 - weight) * salience[kept] + weight * seen
    return SalienceMemory(predicted.layout, salience / salience.sum(), age), new_segment


def longest_unseen(age: np.ndarray, salience: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` tokens that were unseen for longest, the more salient first among equals.

    Because the order is by age first, every token is back after at most ceil(dropped / count) calls.
    """
    order = np.lexsort((-salience, -age))
    return order[age[order] > 0][: max(0, count)]
