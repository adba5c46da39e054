"""FastV (arXiv 2403.06764): drop inside the backbone what the last token does not attend to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..in_call import CallView, InCallRule
from ..types import TokenLayout
from .in_call_pruner import InCallPruner

# After layer 2 of 32 as published; of a backbone of up to 24 layers that is the first, which has to run anyway.
LAYER = 1


@dataclass(frozen=True)
class AttentionOfLastToken(InCallRule):
    """Keeps the visual tokens that the last token attends to most, mean over heads (as in the authors' code)."""

    budget: int
    recordable = True

    def layers(self, depth: int) -> tuple[int, ...]:
        return (LAYER,)

    def choose(self, view: CallView) -> Tensor:
        assert view.attention is not None
        return view.attention[-1].topk(self.budget).indices.sort().values


class FastVPruner(InCallPruner):
    """See the module."""

    name = "fastv"

    def rule(self, layout: TokenLayout, budget: int) -> InCallRule:
        return AttentionOfLastToken(budget)
