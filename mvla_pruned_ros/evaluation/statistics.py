"""Intervals for success rates."""

from __future__ import annotations

import math

Z95 = 1.959963984540054


def wilson_interval(successes: int, episodes: int) -> tuple[float, float]:
    """95 % Wilson score interval of a success rate.

    Raises:
        ValueError: no episodes, or more successes than episodes.
    """
    if episodes < 1 or not 0 <= successes <= episodes:
        raise ValueError(f"{successes} successes of {episodes} episodes is not a rate")
    rate, n, z2 = successes / episodes, episodes, Z95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_interval(with_change: list[bool], without: list[bool]) -> tuple[float, float, float]:
    """Difference of two success rates on the same seeds and its 95 % interval.

    Args:
        with_change, without: success by episode, paired.

    Returns:
        Difference and bounds. The interval is Newcombe's hybrid score interval for paired proportions
        (Newcombe 1998, method 10 without continuity correction).

    Raises:
        ValueError: lists of different lengths, or empty.
    """
    n = len(with_change)
    if n == 0 or n != len(without):
        raise ValueError(f"paired lists must have one length above 0, got {n} and {len(without)}")
    both = sum(a and b for a, b in zip(with_change, without))
    only_a, only_b = sum(with_change) - both, sum(without) - both
    neither = n - both - only_a - only_b
    pa, pb = (both + only_a) / n, (both + only_b) / n
    la, ua = wilson_interval(both + only_a, n)
    lb, ub = wilson_interval(both + only_b, n)
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    phi = (both * neither - only_a * only_b) / math.sqrt(product) if product else 0.0
    low = math.sqrt((pa - la) ** 2 - 2 * phi * (pa - la) * (ub - pb) + (ub - pb) ** 2)
    high = math.sqrt((ua - pa) ** 2 - 2 * phi * (ua - pa) * (pb - lb) + (pb - lb) ** 2)
    return pa - pb, pa - pb - low, pa - pb + high
