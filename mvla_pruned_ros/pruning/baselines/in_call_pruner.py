"""What the methods that choose inside the call have in common: a full first call, a budget, no evidence needed."""

from __future__ import annotations

from ..base import check_keep_ratio, token_budget
from ..in_call import InCallRule
from ..types import Evidence, Selection, TokenLayout


class InCallPruner:
    """Hands the policy a rule with each call but the first. Subclasses say which.

    Attributes:
        name, keep_ratio, bucket: see ``Pruner``.
    """

    name = ""
    bucket = 1

    def __init__(self, keep_ratio: float) -> None:
        self.keep_ratio = check_keep_ratio(keep_ratio)
        self._calls = 0

    def rule(self, layout: TokenLayout, budget: int) -> InCallRule | None:
        """The rule of the call to come, which is to leave ``budget`` visual tokens; None for a full call."""
        raise NotImplementedError

    def budget(self, layout: TokenLayout) -> int:
        """How many visual tokens the call to come may keep."""
        return token_budget(layout, self.keep_ratio, self.bucket)

    def reset(self) -> None:
        self._calls = 0

    def select(self, layout: TokenLayout) -> Selection:
        """Everything is encoded; the rule drops in the call. The first call is full, as it is for every method."""
        if self._calls == 0 or self.keep_ratio == 1:
            return Selection.full(layout)
        return Selection.full(layout, rule=self.rule(layout, self.budget(layout)))

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        self._calls += 1


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

    def __init__(self, keep_ratio: float) -> None:
        super().__init__(keep_ratio)
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._running = RunningBudget()

    def budget(self, layout: TokenLayout) -> int:
        return token_budget(layout, self._running.ratio(self.keep_ratio), self.bucket)

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        if self._calls > 0:  # the first call is full for every method
            self._running.spent(selection.keep_ratio, self.keep_ratio)
        super().observe(layout, selection, evidence)
