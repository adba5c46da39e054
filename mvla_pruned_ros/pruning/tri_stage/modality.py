"""Stage I: which modality carries the action, hence how much of the budget each gets."""

from __future__ import annotations

import numpy as np


def modality_share(norm: np.ndarray, num_image: int) -> float:
    """Share of 2D in the salience of both modalities, alpha (paper, section on modality salience).

    Means, not sums, over the tokens of a modality, so that a pruned call gives the same scale as a full one (ours).

    Args:
        norm: (M,) L1 norms of the features of the tokens of the call, image tokens first.
        num_image: how many of them are image tokens.

    Returns:
        s2D / (s2D + s3D); NaN when one modality was absent from the call or both norms are zero.
    """
    image, points = norm[:num_image], norm[num_image:]
    if len(image) == 0 or len(points) == 0:
        return float("nan")
    total = float(image.mean() + points.mean())
    return float(image.mean()) / total if total > 0 else float("nan")


def split_budget(budget: int, share: float, num_image: int, num_points: int, floor: float) -> tuple[int, int]:
    """How many tokens of each modality may stay.

    In proportion to salience times number of tokens; a modality never falls below ``floor`` times its
    proportional part, and what does not fit into one modality goes to the other.

    Args:
        budget: tokens that may stay in all. share: alpha of stage I; NaN splits in proportion to the numbers.
        num_image, num_points: tokens of an unpruned call. floor: 0..1.

    Returns:
        Image and point tokens; they sum to the budget.
    """
    alpha = 0.5 if np.isnan(share) else share
    weight = alpha * num_image
    fair = budget * num_image / (num_image + num_points)
    wanted = budget * weight / max(weight + (1 - alpha) * num_points, 1e-12)
    image = round(float(np.clip(wanted, floor * fair, budget - floor * (budget - fair))))
    image = int(np.clip(image, max(0, budget - num_points), min(num_image, budget)))
    return image, budget - image
