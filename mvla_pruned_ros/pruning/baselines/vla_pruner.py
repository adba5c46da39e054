"""VLA-Pruner: what the prompt attends to, united with what actions attended to lately.

"Bridging the Semantic-Action Gap in Visual Token Pruning for Efficient VLA Inference" (arXiv 2511.16449).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..in_call import CallView, InCallRule
from ..types import Evidence, Selection, TokenLayout
from .divprune import most_diverse
from .in_call_pruner import GatedPruner, inherited

LAYER = 1  # 3 of 32 as published
WINDOW = 3  # calls
DECAY = 0.8  # of a call's weight, by age in calls


@dataclass(frozen=True)
class PrefillAndAction(InCallRule):
    """The union of both top sets; a union above the budget is thinned to the most diverse input embeddings.

    The prompt's attention is the first action query's: where instruction precedes the images it cannot see them,
    and the first action query is the token that ends the prefill (ours). The union is never smaller than one set.
    """

    budget: int
    action_attention: np.ndarray | Tensor = field(compare=False)  # (N,)
    recordable = True

    def inputs(self) -> tuple[np.ndarray, ...]:
        assert isinstance(self.action_attention, np.ndarray)
        return (self.action_attention,)

    def with_inputs(self, *inputs: Tensor) -> PrefillAndAction:
        return PrefillAndAction(self.budget, *inputs)

    def layers(self, depth: int) -> tuple[int, ...]:
        return (LAYER,)

    def choose(self, view: CallView) -> Tensor:
        assert view.attention is not None and isinstance(self.action_attention, Tensor)
        prefill = view.attention[0].topk(self.budget).indices
        action = self.action_attention.topk(self.budget).indices
        union = torch.zeros(len(view.embeddings), dtype=torch.bool, device=prefill.device)
        union = union.index_fill(0, prefill, True).index_fill(0, action, True)
        return most_diverse(view.embeddings, self.budget, among=union).sort().values


class VlaPrunerPruner(GatedPruner):
    """See the module. Full until the window has filled; a token that was not kept had no action attention."""

    name = "vla_pruner"

    def reset(self) -> None:
        super().reset()
        self._window: deque[tuple[TokenLayout, np.ndarray]] = deque(maxlen=WINDOW)

    def rule(self, layout: TokenLayout, budget: int) -> InCallRule | None:
        if len(self._window) < WINDOW:
            return None
        total = np.zeros(layout.num_visual, np.float32)
        for age, (then, attention) in enumerate(reversed(self._window)):
            total += DECAY**age * attention[inherited(then, layout)].astype(np.float32)
        return PrefillAndAction(budget, total)

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        super().observe(layout, selection, evidence)
        attention = np.zeros(layout.num_visual)
        attention[selection.kept] = evidence.attention
        self._window.append((layout, attention))
