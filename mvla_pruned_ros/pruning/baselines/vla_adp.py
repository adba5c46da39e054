"""VLA-ADP (arXiv 2509.22093): relevance to the text in the first layer, gated by the end effector's motion."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..in_call import CallView, InCallRule
from ..types import Evidence, Selection, TokenLayout
from .in_call_pruner import GatedPruner

WINDOW = 3  # motions that the present one is compared with
PRUNED_IN_A_ROW = 3  # then one full call


@dataclass(frozen=True)
class RelevanceToText(InCallRule):
    """Keeps the highest scores of each modality, each by its share of the budget (a quota per view in VLA-ADP)."""

    budget: int
    recordable = True

    def choose(self, view: CallView) -> Tensor:
        scores, n2 = view.text_scores(), view.num_image
        image = round(self.budget * n2 / len(scores))
        best = scores[:n2].topk(image).indices, n2 + scores[n2:].topk(self.budget - image).indices
        return torch.cat(best).sort().values


class VlaAdpPruner(GatedPruner):
    """See the module. The gate: prune when the end effector moved at least as far as in any of the last windows,
    keep everything when it moved no farther than in any of them, otherwise go on as before; after three pruned
    calls in a row one is full. What a full call spends is saved by those that follow, and until then there is no other
    (``RunningBudget``): ungated it would keep 0.6 where 0.25 is asked for."""

    name = "vla_adp"

    def reset(self) -> None:
        super().reset()
        self._motions: deque[float] = deque(maxlen=WINDOW)
        self._last: np.ndarray | None = None
        self._pruning, self._in_a_row = True, 0

    def rule(self, layout: TokenLayout, budget: int) -> InCallRule | None:
        motion = 0.0 if self._last is None else float(np.linalg.norm(layout.end_effector - self._last))
        if self._motions:
            if motion >= max(self._motions):
                self._pruning = True
            elif motion <= min(self._motions):
                self._pruning = False
        self._motions.append(motion)
        if self._running.repaid and (not self._pruning or self._in_a_row >= PRUNED_IN_A_ROW):
            return None
        return RelevanceToText(budget)

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        self._in_a_row = 0 if selection.is_full else self._in_a_row + 1
        super().observe(layout, selection, evidence)
        self._last = layout.end_effector
