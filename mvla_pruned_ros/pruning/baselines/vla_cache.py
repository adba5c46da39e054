"""VLA-Cache (arXiv 2502.02175, NeurIPS 2025): patches that did not change keep the keys and values of the last call.

It saves work of the backbone only: all tokens are encoded, and those that leave the stream are attended to as they
were.

Theirs: of 256 patches the 150 most like those of the last call may leave, except for the 100 that the prompt attended
to most in the middle of the last call. They leave in the order of their index, at four layers of the first third; how
many by then is told by the entropy of the last call's attention in that layer (``reuse_shares``). A token that was
reused may be reused again for as long as it is alike: there is no refresh.

Ours:
- The budget: ``keep_ratio`` of the tokens are computed in all layers. The two lists of those that are (the 106 that
  changed most, the 100 most attended) grow or shrink together until their union has that size, and at the last of its
  layers all others have left. The threshold of likeness (0.996) has no part in it.
- A modality takes the place of a view.
- Tokens are compared as they enter the backbone, not as pixels. Keys belong to a position in the sequence, so a point
  group is compared with the group of the same index, and reused only if it resembles that one.
- The first action query stands for the prompt, as in ``vla_pruner``, and the action queries, looking at visual tokens,
  for all rows in the entropy.
- Layers of 32 are taken in proportion to the depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..in_call import CallMemory, CallView, InCallRule, true_at
from ..types import Evidence, Selection, TokenLayout
from .in_call_pruner import ComparingPruner, union_of, unlikeness

CHANGED, ATTENDED = 256 - 150, 100  # of 256 patches: those that are no candidates; those that are attended to
LEAVING, MIDDLE, OF = (2, 6, 9, 11), 16, 32  # layers that have run
DAMPING = 0.55  # of a rise from one layer to the next


def layers_of(depth: int) -> tuple[int, ...]:
    """After which layers tokens leave."""
    return tuple(sorted({max(1, round(layer * depth / OF)) for layer in LEAVING}))


def reuse_shares(entropies: Sequence[float]) -> list[float]:
    """Share of what may leave that has left before each layer: the more, the less its attention is spread.

    Args:
        entropies: of the attention in each layer of the last call, mean over rows.
    """
    low, spread = min(entropies), max(entropies) - min(entropies)
    shares: list[float] = []
    for entropy in entropies:
        share = 1 - (entropy - low) / (spread or 1.0)
        if shares and share > shares[-1]:
            share = shares[-1] + DAMPING * (share - shares[-1])
        shares.append(share)
    return shares


@dataclass
class Shown:
    """What a call showed: (N, width) embeddings, how many of an image, length of the text, (N,) attention of the prompt
    in the middle layer, entropy by layer."""

    embeddings: Tensor | None = None
    form: tuple[int, ...] = ()
    attention: Tensor | None = None
    tensors: list[Tensor] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)

    def look(self, view: CallView) -> None:
        """Note what the next call has to know."""
        assert view.attention is not None
        self.embeddings, self.form = view.embeddings, (len(view.embeddings), view.num_image, len(view.text))
        if view.layer == max(1, round(MIDDLE * view.depth / OF)):
            self.attention = view.attention[0]
        rows = view.attention.float() / view.attention.float().sum(-1, keepdim=True)
        self.tensors.append(torch.special.entr(rows).sum(-1).mean())


@dataclass(frozen=True)
class Reuse(InCallRule):
    """Lets tokens leave that ``last`` shows to be as they were.

    Attributes:
        budget: tokens that are computed in all layers. memory: keys and values.
        last: what the call before showed, None: nothing leaves. shares: of ``reuse_shares``, of that call.
        shown: filled with what this call shows.
    """

    budget: int
    memory: CallMemory
    last: Shown | None = None
    shares: Sequence[float] = ()
    shown: Shown = field(default_factory=Shown)

    def layers(self, depth: int) -> tuple[int, ...]:
        return tuple(range(1, depth + 1))  # it looks at all

    def report(self) -> Tensor:
        return torch.stack(self.shown.tensors)

    def receive(self, values: np.ndarray) -> None:
        self.shown.entropies = values.tolist()

    def choose(self, view: CallView) -> Tensor | None:
        self.shown.look(view)
        cuts, last = layers_of(view.depth), self.last
        if last is None or last.form != self.shown.form or view.layer not in cuts:
            return None  # also where the number of tokens changed: nothing fits that was kept
        assert last.embeddings is not None and last.attention is not None
        lists = [(unlikeness(view.embeddings, last.embeddings), CHANGED), (last.attention, ATTENDED)]
        stays = torch.zeros(len(view.embeddings), dtype=torch.bool, device=view.embeddings.device)
        stays[union_of(lists, self.budget, view.num_image)] = True
        leaving = true_at(~stays, len(stays) - self.budget)
        if view.layer != cuts[-1]:
            by_now = max(max(1, int(self.shares[layer] * len(leaving))) for layer in cuts if layer <= view.layer)
            leaving = leaving[:by_now]
        on = torch.ones_like(stays).index_fill(0, leaving, False)
        return None if len(leaving) == 0 else true_at(on, len(on) - len(leaving))


class VlaCachePruner(ComparingPruner):
    """See the module. A call that follows none, or one with another number of tokens, is computed in full."""

    name = "vla_cache"

    def reset(self) -> None:
        super().reset()
        self._rule: Reuse | None = None
        self._last: tuple[Shown, list[float], Any] | None = None  # with the keys and values

    def rule(self, layout: TokenLayout, budget: int) -> InCallRule:
        shown, shares, held = self._last or (None, [], None)
        self._rule = Reuse(budget, CallMemory(held), shown, shares)
        return self._rule

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        super().observe(layout, selection, evidence)
        if self._rule is not None:
            shown = self._rule.shown
            self._last = shown, reuse_shares(shown.entropies), self._rule.memory.after
            self._rule = None
