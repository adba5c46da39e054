"""Salience of one policy call: how it is shared between 2D and 3D, semantic sets, and what 3D repeats or adds.

N2 image tokens stand before N3 point tokens in every array; N = N2 + N3. ``values`` are either L1 norms of features or
the attention of the action tokens, one per token of an unpruned call; neither has a unit, and only their shares mean
something. The questions are those of arXiv 2604.09244.
"""

from __future__ import annotations

import numpy as np

from ..pruning.tri_stage.semantic import unique_points
from ..pruning.types import SemanticSet, TokenLayout

# 2D / 3D salience in percent that the paper reports of MLA on RLBench. It has 256 tokens of each modality, so that
# shares of means and shares of sums are the same there.
PAPER_SHARES = {"Close Box": (90.16, 9.84), "Close Fridge": (81.47, 18.53), "Close Laptop": (90.38, 9.62)}


def share_of_sums(values: np.ndarray, num_image: int) -> float:
    """Part of the image tokens in the total; grows with their number. The share of means is
    ``pruning.salience.modality_share``.

    Args:
        values: (N,), not negative. num_image: N2.

    Returns:
        sum over 2D / sum over all, 0..1; NaN when all values are zero.
    """
    total = float(values.sum())
    return float(values[:num_image].sum()) / total if total > 0 else float("nan")


def in_multiples_of_mean(values: np.ndarray) -> np.ndarray:
    """(N,) values / their mean: 1 is an average token, so that calls and measures can be pooled. All zero: all zero."""
    mean = float(values.mean())
    return values / mean if mean > 0 else np.zeros_like(values, dtype=np.float64)


def sums_by_set(values: np.ndarray, sets: np.ndarray, num_image: int) -> tuple[np.ndarray, np.ndarray]:
    """Totals within each semantic set and modality; totals and not means, so that calls can be added up.

    Args:
        values: (N,). sets: (N,) of ``SemanticSet``. num_image: N2.

    Returns:
        (3, 2) float64 sums and (3, 2) int64 numbers of tokens; rows by ``SemanticSet``, columns 2D and 3D.
    """
    cell = 2 * np.asarray(sets, np.int64) + (np.arange(len(sets)) >= num_image)
    cells = 2 * len(SemanticSet)
    sums, counts = np.bincount(cell, values, cells), np.bincount(cell, minlength=cells)
    return sums.reshape(-1, 2), counts.reshape(-1, 2)


def unique_shares(attention: np.ndarray, layout: TokenLayout) -> tuple[float, float]:
    """How much of 3D tells what no well-attended patch tells already (paper, stage II).

    Args:
        attention: (N,). layout: of that call.

    Returns:
        Share of 3D attention and share of 3D tokens that are unique, 0..1; the rest overlaps 2D. NaN without
        point tokens, the first also without attention on any.
    """
    points = attention[layout.num_image :]
    if len(points) == 0:
        return float("nan"), float("nan")
    unique, total = unique_points(layout, attention), float(points.sum())
    return (float(points[unique].sum()) / total if total > 0 else float("nan")), float(unique.mean())
