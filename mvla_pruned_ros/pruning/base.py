"""What every selection rule offers: choose before the call, learn after it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from .types import Evidence, Selection, TokenLayout


class Pruner(Protocol):
    """A selection rule.

    Attributes:
        name: as on the command line and in result files.
        keep_ratio: visual tokens kept / visual tokens in, (0, 1]; may be changed between calls.
        bucket: see ``token_budget``; set by who knows the policy.
    """

    name: str
    keep_ratio: float
    bucket: int

    def reset(self) -> None:
        """Forget everything; the next selection is full."""

    def select(self, layout: TokenLayout) -> Selection:
        """Which tokens stay in the call that is about to be made."""

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        """Learn from the call that was just made."""


def check_keep_ratio(value: float) -> float:
    """The value, if it is a keep ratio.

    Raises:
        ValueError: it is not in (0, 1].
    """
    if not 0 < value <= 1:  # also refuses NaN
        raise ValueError(f"keep ratio {value} is outside (0, 1]: 1 keeps every visual token, 0.5 half of them")
    return float(value)


def token_budget(layout: TokenLayout, keep_ratio: float, bucket: int = 1) -> int:
    """How many visual tokens may stay.

    Args:
        bucket: the count is rounded to the nearest multiple of this, so that few different shapes occur. At 512 tokens
            a bucket of 8 moves the keep ratio by at most 0.008.

    Returns:
        At least one bucket, at most all tokens; all of them where the ratio asks for all, whatever the bucket.
    """
    count = max(1, round(keep_ratio * layout.num_visual))
    if count == layout.num_visual:
        return count
    return min(layout.num_visual, max(bucket, bucket * round(count / bucket)))


def top(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` largest of (N,) scores, ties by index; fewer when N is smaller."""
    return np.argsort(-scores, kind="stable")[: max(0, count)]


class BudgetPruner:
    """Makes one full call and then keeps a budget of tokens; subclasses say which. The first call is full for every
    method, so that methods are compared at the same measured keep ratio.

    Attributes:
        name, keep_ratio, bucket: see ``Pruner``.
    """

    name = ""
    bucket = 1

    def __init__(self, keep_ratio: float) -> None:
        self.keep_ratio = check_keep_ratio(keep_ratio)
        self.reset()

    def reset(self) -> None:
        self._calls = 0

    def budget(self, layout: TokenLayout) -> int:
        """How many visual tokens the call to come may keep."""
        return token_budget(layout, self.keep_ratio, self.bucket)

    def select(self, layout: TokenLayout) -> Selection:
        if self._calls == 0 or self.keep_ratio == 1:
            return Selection.full(layout)
        return self.prune(layout, self.budget(layout))

    def prune(self, layout: TokenLayout, budget: int) -> Selection:
        """Which tokens stay in a call that is to leave ``budget`` visual tokens."""
        raise NotImplementedError

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        self._calls += 1
