"""A rule at work in one pass through the backbone (batch 1): it is asked, and what it lets go is taken out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...pruning.in_call import CallView, InCallRule, true_at
from .attention import AttentionRows, PrefixCache

# layer, (Q, N) attention, (N,) bool of the tokens that have not left -> what the rule is shown
Shown = Callable[[int, Tensor, Tensor], CallView]


class Cuts:
    """What runs on, layer by layer. N visual tokens in a sequence of T + Q.

    Attributes:
        left: (M,) int64 visual tokens that still run.
        choices: layer -> (M,) what stayed where something left.
        computed: visual tokens that each layer so far was run on.
    """

    def __init__(
        self, rule: InCallRule, shown: Shown, visual: Tensor, length: int, queries: int, depth: int,
        cache: PrefixCache | None, evidence: AttentionRows | None,
    ) -> None:  # fmt: skip
        """
        Args:
            shown: makes the view of the rule. visual: (N,) int64 places of the visual tokens. length: T + Q, of which
                the last are ``queries`` action tokens. depth: layers of the backbone.
            cache: of this call; needed where the rule has a memory. evidence: what it collects shrinks with the stream.
        """
        self._rule, self._shown, self._visual, self._queries = rule, shown, visual, queries
        self._asked, self._cache, self._evidence = rule.layers(depth), cache, evidence
        self._stream = torch.arange(length, device=visual.device)  # places of what still runs
        self._length, self._reader = length, AttentionRows((), queries)
        self.left = torch.arange(len(visual), device=visual.device)
        self.choices: dict[int, Tensor] = {}
        self.computed: list[int] = []

    def before(self, index: int) -> list[AttentionRows]:
        """What reads the attention of layer ``index`` for the rule."""
        self.computed.append(len(self.left))
        if index + 1 not in self._asked:
            return []
        self._reader = AttentionRows((index,), self._queries, per_row=True)
        return [self._reader]

    def after(self, index: int) -> Tensor | None:
        """(S,) int64, which tokens of the stream run on after layer ``index``; None: all."""
        layer = index + 1
        if layer not in self._asked:
            return None
        chosen = self._rule.choose(self._view(layer))
        if chosen is None:
            return None
        stays = torch.ones(self._length, dtype=torch.bool, device=chosen.device)
        stays = stays.index_fill(0, self._visual, False).index_fill(0, self._visual[chosen], True)
        on = true_at(stays[self._stream], len(self._stream) - len(self.left) + len(chosen))
        self._stream, self.left, self.choices[layer] = self._stream[on], chosen, chosen
        if self._rule.memory is not None:
            assert self._cache is not None
            self._cache.narrow(self._stream, self._rule.memory.before)
        elif self._evidence is not None:
            self._evidence.collected = [keys[:, on] for keys in self._evidence.collected]
        return on

    def finish(self) -> tuple[Tensor, Tensor]:
        """(M,) places of the visual tokens that are left, in the stream and among the keys; the memory is filled."""
        place = torch.empty(self._length, dtype=torch.int64, device=self._stream.device)
        place[self._stream] = torch.arange(len(self._stream), device=place.device)
        in_sequence = self._visual[self.left]
        if self._rule.memory is None:
            return place[in_sequence], place[in_sequence]
        assert self._cache is not None
        self._cache.widen()
        self._rule.memory.after = self._cache
        return place[in_sequence], in_sequence

    def _view(self, layer: int) -> CallView:
        rows = self._reader.collected[0][0]
        if self._rule.memory is None:  # keys are those of the stream, elsewhere those of the whole sequence
            rows = rows.new_zeros(len(rows), self._length).index_copy(1, self._stream, rows)
        present = torch.zeros(len(self._visual), dtype=torch.bool, device=rows.device)
        return self._shown(layer, rows[:, self._visual], present.index_fill(0, self.left, True))
