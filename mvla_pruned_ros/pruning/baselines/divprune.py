"""DivPrune (arXiv 2503.02175): keep the most diverse encoded tokens, whatever the task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..in_call import CallView, InCallRule
from ..types import TokenLayout
from .in_call_pruner import InCallPruner


def most_diverse(tokens: Tensor, count: int, chosen: Tensor | None = None, among: Tensor | None = None) -> Tensor:
    """Greedy max-min selection by cosine distance.

    Args:
        tokens: (N, D). count: how many to choose in all. chosen: (C,) indices that are in already; without them
            the token farthest from its nearest neighbour is first, as published.
        among: (N,) bool, of at least ``count``: the others do not exist; None: all. Not with ``chosen``.

    Returns:
        (count,) indices in the order of choice.
    """
    unit = torch.nn.functional.normalize(tokens.float(), dim=-1)
    distance = 1 - unit @ unit.T
    if chosen is None or len(chosen) == 0:
        others = distance + torch.eye(len(tokens), device=tokens.device) * 4  # a token is not its own neighbour
        if among is not None:
            others = others.masked_fill(~among, 4).masked_fill(~among[:, None], -1)
        chosen = others.amin(1).argmax()[None]
    nearest = distance[chosen].amin(0).index_fill(0, chosen, -1)
    if among is not None:
        nearest = nearest.masked_fill(~among, -1)
    picks = list(chosen.split(1))
    for _ in range(count - len(chosen)):
        pick = nearest.argmax()[None]  # stays on the device: no wait per token
        picks.append(pick)
        nearest = torch.minimum(nearest, distance.index_select(0, pick)[0]).index_fill(0, pick, -1)
    return torch.cat(picks)[:count]


@dataclass(frozen=True)
class MostDiverse(InCallRule):
    """The choice, before the backbone."""

    budget: int
    recordable = True

    def choose(self, view: CallView) -> Tensor:
        return most_diverse(view.embeddings, self.budget).sort().values


class DivPrunePruner(InCallPruner):
    """See the module."""

    name = "divprune"

    def rule(self, layout: TokenLayout, budget: int) -> InCallRule:
        return MostDiverse(budget)
