"""How an end effector went: figures of its measured positions."""

from __future__ import annotations

import numpy as np


def path_length(positions: np.ndarray) -> float:
    """Metres: the sum of the straight lines between consecutive (N, 3) positions, metres."""
    return float(np.linalg.norm(np.diff(np.asarray(positions, np.float64), axis=0), axis=1).sum())


def mean_jerk(positions: np.ndarray, step_s: float) -> float | None:
    """Mean magnitude of the third derivative of the position, m/s^3.

    The third finite difference of consecutive positions, p[k+3] - 3 p[k+2] + 3 p[k+1] - p[k], over the step cubed; its
    Euclidean length, averaged over all k. Nothing is smoothed, so figures compare between episodes of the same step
    only: a shorter one sees faster shaking. Positions are float32 metres, whose rounding adds less than 1 m/s^3 at
    steps of 12.5 ms.

    Args:
        positions: (N, 3) metres, ``step_s`` seconds apart.

    Returns:
        None for fewer than four positions.
    """
    if len(positions) < 4:
        return None
    third = np.diff(np.asarray(positions, np.float64), n=3, axis=0)
    return float(np.linalg.norm(third, axis=1).mean() / step_s**3)
