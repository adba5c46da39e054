"""DART (arXiv 2502.11494): keep a few pivots and the tokens that duplicate them least."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..in_call import CallView, InCallRule, true_at
from ..types import TokenLayout
from .in_call_pruner import InCallPruner

PIVOTS = 4  # visual ones, and as many of the text


def least_similar(tokens: Tensor, pivots: Tensor, taken: Tensor, count: int) -> Tensor:
    """``count`` tokens in turn from each pivot's list of lowest cosine similarity.

    Args:
        tokens: (N, D). pivots: (P, D). taken: (N,) bool, not to be chosen. count: how many.

    Returns:
        (N,) bool, ``taken`` and the chosen.
    """
    unit, pivot = (torch.nn.functional.normalize(x.float(), dim=-1) for x in (tokens, pivots))
    similarity, taken = unit @ pivot.T, taken.clone()
    share, rest = divmod(count, len(pivots))
    for i in range(len(pivots)):
        part = share + (i < rest)
        order = similarity[:, i].masked_fill(taken, float("inf"))
        taken = taken.index_fill(0, order.topk(part, largest=False).indices, True)
    return taken


@dataclass(frozen=True)
class LeastDuplicated(InCallRule):
    """The choice, before the backbone. Each modality gets its share of the budget, as each image does in DART."""

    budget: int
    recordable = True

    def choose(self, view: CallView) -> Tensor:
        total, n2 = len(view.embeddings), view.num_image
        image_budget = round(self.budget * n2 / total)
        text = view.text[view.text.abs().sum(-1).topk(min(PIVOTS, len(view.text))).indices]
        parts = []
        for tokens, budget in (
            (view.embeddings[:n2], image_budget),
            (view.embeddings[n2:], self.budget - image_budget),
        ):
            pivots = tokens.abs().sum(-1).topk(min(PIVOTS, budget)).indices
            taken = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device).index_fill(0, pivots, True)
            parts.append(least_similar(tokens, torch.cat([tokens[pivots], text]), taken, budget - len(pivots)))
        return true_at(torch.cat(parts), self.budget)


class DartPruner(InCallPruner):
    """See the module."""

    name = "dart"

    def rule(self, layout: TokenLayout, budget: int) -> InCallRule:
        return LeastDuplicated(budget)
