"""SpecPrune-VLA (arXiv 2509.05614): what moved, what earlier actions attended to, what the first layers attend to.

Theirs: the lists, their lengths, the two cuts, how far back a frame is compared, and the gate. Of 256 patches the 200
that changed least since an earlier frame may go (220 in precise calls). After the first layer those of them go that are
neither among the 3 k tokens of highest prompt attention nor among the k of highest attention of the previous action;
after the second those that are among the k of neither layer nor of the previous action. k is 16 (precise: 25).

Ours:
- The budget: ``keep_ratio`` of the tokens are left after the second cut. The lists of those that stay (the 56 or 36
  that changed most, and the attended) grow or shrink together, in their proportions, until their union has that size;
  the first cut leaves as many more as the lists are longer there. The threshold of likeness (0.986) has no part in it.
- A modality takes the place of a view. Both have the lengths of the main view.
- Tokens are compared as they enter the backbone, not as pixels, and point groups with the nearest group of the other
  frame. Frames are those of calls.
- Speed is the way of the end effector since the last call in spacings of tokens. Theirs is in commands, of up to 5 cm
  in LIBERO, about the spacing of ``small``. Rotation and the queue of actions, unknown here, do not count in the gate.
- The first action query stands for the prompt, as in ``vla_pruner``; the attention of the previous action is that of
  the evidence. (In their code its set comes back empty, and indices among what the first cut left are used as if they
  were those of all tokens. Neither is copied.)
- Their pruning by a running rank in later layers is optional, off in their code, and left out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..in_call import CallView, InCallRule
from ..types import Evidence, Selection, TokenLayout
from .in_call_pruner import ComparingPruner, inherited, union_of, unlikeness

FIRST, SECOND = 1, 2  # layers before the cuts, whatever the depth: the rule compares these two
WIDER = 3  # times k after the first layer
FARTHEST = 6  # calls back that a frame is compared with
SLOW, LIFTED = 0.4, 0.2  # spacings per call: slower is precise, until it rises faster


@dataclass(frozen=True)
class Lengths:
    """Of 256 patches. changed: that are no candidates. attended: k."""

    changed: int
    attended: int

    @property
    def widening(self) -> float:
        """Tokens after the first cut / tokens after the second, if no token were in two lists."""
        return (self.changed + (WIDER + 1) * self.attended) / (self.changed + 3 * self.attended)


COARSE, PRECISE = Lengths(256 - 200, 16), Lengths(256 - 220, 25)


def calls_back(moved: float) -> int:
    """Which earlier frame a call is compared with. moved: way since the last call, in spacings."""
    return max(1, min(FARTHEST, int(22 / 3 - 16 / 18 * moved) + 3))


@dataclass(frozen=True)
class StaticAndUnattended(InCallRule):
    """Lets those go that did not change and that nothing attends to.

    Attributes:
        budget: tokens after the second cut. lengths: of the lists.
        then: (N, width) embeddings of the earlier frame, in the order of this one; None: nothing goes.
        previous: (N,) attention of the previous action, 0 for tokens that it did not see.
        seen: what the call showed: its embeddings (at 0) and its (N,) prompt attention by layer.
    """

    budget: int
    lengths: Lengths = COARSE
    then: Tensor | None = None
    previous: np.ndarray | Tensor | None = None
    seen: dict[int, Tensor] = field(default_factory=dict)

    def inputs(self) -> tuple[np.ndarray, ...]:
        return (self.previous,) if isinstance(self.previous, np.ndarray) else ()

    def with_inputs(self, *inputs: Tensor) -> StaticAndUnattended:
        return replace(self, previous=inputs[0]) if inputs else self

    def layers(self, depth: int) -> tuple[int, ...]:
        return FIRST, SECOND

    def choose(self, view: CallView) -> Tensor | None:
        assert view.attention is not None
        total, k = len(view.embeddings), self.lengths.attended
        self.seen[0], self.seen[view.layer] = view.embeddings, view.attention[0]
        if self.then is None or self.previous is None or self.budget == total:
            return None
        assert isinstance(self.previous, Tensor)
        previous = self.previous.float()
        lists: list[tuple[Tensor, float]] = [
            (unlikeness(view.embeddings, self.then), self.lengths.changed),
            (previous.masked_fill(previous == 0, -torch.inf), k),
        ]
        if view.layer == FIRST:
            lists.append((self.seen[FIRST], WIDER * k))
            return union_of(lists, min(total, round(self.budget * self.lengths.widening)), view.num_image)
        lists += [(self.seen[FIRST], k), (self.seen[SECOND], k)]
        return union_of(lists, self.budget, view.num_image, view.present)


class SpecPrunePruner(ComparingPruner):
    """See the module."""

    name = "specprune"

    def reset(self) -> None:
        super().reset()
        self._frames: deque[tuple[TokenLayout, Tensor]] = deque(maxlen=FARTHEST)
        self._last: tuple[TokenLayout, np.ndarray] | None = None  # and (N,) attention
        self._precise = False
        self._seen: dict[int, Tensor] = {}

    def rule(self, layout: TokenLayout, budget: int) -> InCallRule:
        self._seen = {}
        if self._last is None or self._last[0].num_image != layout.num_image or not self._frames:
            self._frames.clear()
            return StaticAndUnattended(layout.num_visual, seen=self._seen)
        before, attention = self._last
        way = (layout.end_effector - before.end_effector) / layout.spacing
        moved = float(np.linalg.norm(way))
        self._precise = bool(way[2] <= LIFTED) if self._precise else moved < SLOW
        then, embeddings = self._frames[-min(calls_back(moved), len(self._frames))]
        return StaticAndUnattended(
            budget,
            PRECISE if self._precise else COARSE,
            embeddings[torch.from_numpy(inherited(then, layout)).to(embeddings.device)],
            attention[inherited(before, layout)],
            self._seen,
        )

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        super().observe(layout, selection, evidence)
        attention = np.zeros(layout.num_visual, np.float32)
        attention[selection.kept] = evidence.attention
        self._last = layout, attention
        if 0 in self._seen:
            self._frames.append((layout, self._seen[0]))
