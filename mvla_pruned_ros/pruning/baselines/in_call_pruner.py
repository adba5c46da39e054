"""What the methods that choose inside the call have in common: a full first call, a budget, no evidence needed."""

from __future__ import annotations

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
