"""Intervals against published values."""

from __future__ import annotations

import pytest

from mvla_pruned_ros.evaluation.statistics import paired_interval, wilson_interval


def test_wilson_interval_matches_the_textbook() -> None:
    # Newcombe 1998 (single proportion), table I: 81 of 263 and 0 of 20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


@pytest.mark.parametrize("successes, episodes", [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, episodes: int) -> None:
    with pytest.raises(ValueError, match="is not a rate"):
        wilson_interval(successes, episodes)


def test_paired_interval_matches_the_textbook() -> None:
    # Newcombe 1998 (paired proportions), method 10: 36 both, 12 only first, 2 only second, 0 neither.
    first = [True] * 48 + [False] * 2
    second = [True] * 36 + [False] * 12 + [True] * 2
    difference, low, high = paired_interval(first, second)
    assert difference == pytest.approx(0.2)
    assert (low, high) == pytest.approx((0.0569, 0.3404), abs=1e-4)


def test_paired_lists_must_match() -> None:
    with pytest.raises(ValueError, match="one length"):
        paired_interval([True], [True, False])
