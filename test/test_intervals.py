"""Intervals against published values, and their coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from mvla_pruned_ros.evaluation.success.intervals import (
    mean_interval,
    mean_paired_interval,
    paired_interval,
    wilson_interval,
)


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


@pytest.mark.parametrize("episodes", [2, 3, 10, 50])
def test_two_that_solve_the_same_episodes_do_not_differ(episodes: int) -> None:
    """Rounding leaves the squared half width of some a little below nothing."""
    for solved in range(1, episodes):
        same = [True] * solved + [False] * (episodes - solved)
        difference, low, high = paired_interval(same, same)
        assert difference == 0 and low <= 0 and high == pytest.approx(-low)


def test_paired_lists_must_match() -> None:
    with pytest.raises(ValueError, match="one length"):
        paired_interval([True], [True, False])


def pairs(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Success by episode of two settings, from the four counts of a paired table."""
    counts = (both, first, second, neither)
    return (
        [a for a, n in zip((True, True, False, False), counts) for _ in range(n)],
        [b for b, n in zip((True, False, True, False), counts) for _ in range(n)],
    )


def test_mean_over_one_task_is_the_published_interval() -> None:
    # Agresti and Coull: the centre is Wilson's.
    mean, low, high = mean_interval([81], [263])
    assert mean == 81 / 263
    assert (low + high) / 2 == pytest.approx(sum(wilson_interval(81, 263)) / 2)
    assert (low, high) == pytest.approx((0.2552, 0.3663), abs=1e-4)
    # Bonett and Price on the data of Bentur 2009, as in Fagerland, Lydersen and Laake 2014: 1, 1, 7, 12.
    first, second = pairs(1, 1, 7, 12)
    difference, low, high = mean_paired_interval([first], [second])
    assert difference == pytest.approx(-6 / 21)
    assert (low, high) == pytest.approx((-0.508, -0.013), abs=5e-4)


def test_mean_over_tasks_by_hand() -> None:
    # Two tasks of 10: 10 and 6 successes; z^2 / 4 = 0.9604 successes and failures more in each.
    mean, low, high = mean_interval([10, 6], [10, 10])
    p, q, n = 10.9604 / 11.9207, 6.9604 / 11.9207, 11.9207
    half = 1.96 * (p * (1 - p) / n + q * (1 - q) / n) ** 0.5 / 2
    assert mean == pytest.approx(0.8)
    assert (low, high) == pytest.approx(((p + q) / 2 - half, (p + q) / 2 + half), abs=1e-4)
    # Tasks of different lengths weigh alike.
    assert mean_interval([10, 50], [10, 100])[0] == pytest.approx(0.75)
    a, b = pairs(5, 3, 1, 1)
    same = [True] * 20
    assert mean_paired_interval([a, same], [b, same])[0] == pytest.approx(0.1)


def test_means_are_symmetric_and_bounded() -> None:
    a, b = pairs(5, 3, 1, 1)
    difference, low, high = mean_paired_interval([a, a], [b, b])
    assert mean_paired_interval([b, b], [a, a]) == pytest.approx((-difference, -high, -low))
    assert mean_interval([10, 10], [10, 10])[2] == 1.0 and mean_interval([0, 0], [10, 10])[1] == 0.0
    always, never = [[True] * 3] * 2, [[False] * 3] * 2
    assert mean_paired_interval(always, never)[2] <= 1.0
    # Where no episode differs the interval still has a width, and it shrinks with the number of tasks.
    narrow, wide = (mean_paired_interval([[True] * 20] * t, [[True] * 20] * t) for t in (11, 2))
    assert 0 < narrow[2] < wide[2] and narrow[0] == 0


@pytest.mark.parametrize("first, second", [([], []), ([[True]], []), ([[True], []], [[True], []])])
def test_means_of_nothing_are_refused(first: list[list[bool]], second: list[list[bool]]) -> None:
    with pytest.raises(ValueError, match="one length above 0"):
        mean_paired_interval(first, second)
    with pytest.raises(ValueError, match="one length above 0|is not a rate"):
        mean_interval([1, 1][: len(first)], [len(x) for x in first][: len(second)])


@pytest.mark.parametrize(
    "rates, episodes",
    [
        ([0.99] * 11, 100),  # where the benchmark's rates are
        ([1, 1, 1, 0.99, 0.98, 0.95, 0.9, 0.8, 0.6, 0.3, 0.05], 100),
        ([0.95] * 11, 20),
        ([0.5] * 3, 20),
    ],
)
def test_interval_of_the_mean_covers_the_truth(rates: list[float], episodes: int) -> None:
    draws = np.random.default_rng(0).binomial(episodes, rates, (2000, len(rates)))
    bounds = np.array([mean_interval(list(d), [episodes] * len(rates))[1:] for d in draws])
    covered = ((bounds[:, 0] <= np.mean(rates)) & (np.mean(rates) <= bounds[:, 1])).mean()
    assert 0.935 <= covered <= 0.985


@pytest.mark.parametrize(
    "tables, episodes, most",
    [
        ([[0.97, 0.01, 0.02, 0.0]] * 11, 100, 0.975),  # both, only first, only second, neither
        ([[0.895, 0.005, 0.095, 0.005]] * 11, 100, 0.975),
        ([[1.0, 0.0, 0.0, 0.0]] * 10 + [[0.4, 0.05, 0.5, 0.05]], 100, 0.975),
        ([[0.5, 0.1, 0.2, 0.2]] * 11, 20, 0.975),
        ([[0.8, 0.05, 0.1, 0.05]] * 2, 20, 0.985),
        ([[0.997, 0.001, 0.002, 0.0]] * 11, 100, 1.0),  # hardly an episode differs: wide rather than wrong
    ],
)
def test_interval_of_the_mean_difference_covers_the_truth(
    tables: list[list[float]], episodes: int, most: float
) -> None:
    rng, truth = np.random.default_rng(0), np.mean([t[1] - t[2] for t in tables])
    covered = 0
    for _ in range(600):
        drawn = [pairs(*rng.multinomial(episodes, t)) for t in tables]
        _, low, high = mean_paired_interval([d[0] for d in drawn], [d[1] for d in drawn])
        covered += low <= truth <= high
    assert 0.93 <= covered / 600 <= most
