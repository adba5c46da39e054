"""What the methods that choose inside the call have in common: a full first call, a budget, no evidence needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..base import BudgetPruner, token_budget
from ..in_call import InCallRule
from ..types import Evidence, Selection, TokenLayout


class InCallPruner(BudgetPruner):
    """Hands the policy a rule with each call but the first. Everything is encoded; the rule drops in the call."""

    def rule(self, layout: TokenLayout, budget: int) -> InCallRule | None:
        """The rule of the call to come, which is to leave ``budget`` visual tokens; None for a full call."""
        raise NotImplementedError

    def prune(self, layout: TokenLayout, budget: int) -> Selection:
        return Selection.full(layout, rule=self.rule(layout, budget))


class ComparingPruner(InCallPruner):
    """For methods that compare a call with earlier ones: their rule sees the first call too, with a budget of all."""

    def select(self, layout: TokenLayout) -> Selection:
        if self.keep_ratio == 1:
            return Selection.full(layout)
        return self.prune(layout, layout.num_visual if self._calls == 0 else self.budget(layout))


class RunningBudget:
    """Holds a method that makes full calls of its own choice to its keep ratio: what such a call spends beyond it is
    saved in the calls that follow, so that methods are compared at the same measured ratio (ours)."""

    REPAY_CALLS = 4  # a surplus is paid back over about so many calls
    LEAST = 0.5  # never fewer than this part of the keep ratio

    def __init__(self) -> None:
        self._surplus = 0.0

    @property
    def repaid(self) -> bool:
        """Whether nothing is left to be saved."""
        return self._surplus < 1e-9

    def ratio(self, keep_ratio: float) -> float:
        """What the next pruned call may keep."""
        return max(self.LEAST * keep_ratio, keep_ratio - self._surplus / self.REPAY_CALLS)

    def spent(self, kept: float, keep_ratio: float) -> None:
        """kept: ratio of a call that was made."""
        self._surplus = max(0.0, self._surplus + kept - keep_ratio)


class GatedPruner(InCallPruner):
    """For methods that make full calls of their own choice, beyond the first: those are paid for afterwards."""

    def reset(self) -> None:
        super().reset()
        self._running = RunningBudget()

    def budget(self, layout: TokenLayout) -> int:
        return token_budget(layout, self._running.ratio(self.keep_ratio), self.bucket)

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        if self._calls > 0:  # the first call is full for every method
            self._running.spent(selection.keep_ratio, self.keep_ratio)
        super().observe(layout, selection, evidence)


def inherited(then: TokenLayout, now: TokenLayout) -> np.ndarray:
    """(N,) index of the token of an earlier frame that each token of this one takes its history from.

    Patches keep their index; point groups are drawn afresh each frame and inherit from the nearest (ours).
    """
    nearest = cKDTree(then.point_positions).query(now.point_positions)[1]
    return np.concatenate([np.arange(now.num_image), then.num_image + nearest])


def unlikeness(tokens: Tensor, others: Tensor) -> Tensor:
    """(N,) 1 - cosine of the rows of two (N, D)."""
    return 1 - torch.nn.functional.cosine_similarity(tokens.float(), others.float(), dim=-1)


def union_of(
    lists: Sequence[tuple[Tensor, float]], count: int, num_image: int, present: Tensor | None = None
) -> Tensor:
    """(count,) ascending indices: the tops of several lists united, all lists growing in proportion until the union of
    each modality has its share of ``count``. So rules with constants for each list are held to a budget (ours).

    Args:
        lists: (N,) scores, -inf where a token is not in the list, and the length that the list has as published.
        present: (N,) bool, tokens that there are, at least ``count``; None: all.
    """
    total = len(lists[0][0])
    image = round(count * num_image / total)
    parts = []
    for start, end, share in ((0, num_image, image), (num_image, total, count - image)):
        grown = torch.full((end - start,), torch.inf, device=lists[0][0].device)  # how far until a token is in
        for scores, length in lists:
            part = scores[start:end].float()
            if present is not None:
                part = part.masked_fill(~present[start:end], -torch.inf)
            rank = part.argsort(descending=True, stable=True).argsort() + 1
            grown = grown.minimum((rank / length).masked_fill(part == -torch.inf, torch.inf))
        parts.append(start + grown.argsort(stable=True)[:share])
    return torch.cat(parts).sort().values
