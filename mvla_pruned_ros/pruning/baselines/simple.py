"""Selection rules that look at nothing: everything, a random part, an evenly spaced part."""

from __future__ import annotations

import numpy as np

from ..base import check_keep_ratio, token_budget
from ..types import Evidence, Reason, Selection, TokenLayout


class NoPruning:
    """Every token, every call."""

    name = "none"
    bucket = 1

    def __init__(self) -> None:
        self.keep_ratio = 1.0

    def reset(self) -> None:
        pass

    def select(self, layout: TokenLayout) -> Selection:
        return Selection.full(layout)

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        pass


class RandomPruning:
    """A uniformly random part, drawn anew each call. The first call is full, as it is for every method, so that
    methods are compared at the same measured keep ratio."""

    name = "random"
    bucket = 1

    def __init__(self, keep_ratio: float, seed: int = 0) -> None:
        self.keep_ratio = check_keep_ratio(keep_ratio)
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        self._rng = np.random.default_rng(self._seed)
        self._first = True

    def select(self, layout: TokenLayout) -> Selection:
        if self._first or self.keep_ratio == 1:
            return Selection.full(layout)
        reason = np.full(layout.num_visual, Reason.DROPPED, np.int8)
        reason[self.choose(layout, token_budget(layout, self.keep_ratio, self.bucket))] = Reason.CHOSEN
        return Selection(reason, layout.num_image)

    def choose(self, layout: TokenLayout, count: int) -> np.ndarray:
        """(count,) indices of the tokens that stay."""
        return self._rng.choice(layout.num_visual, count, replace=False)

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        self._first = False


class UniformPruning:
    """Evenly spaced patches in reading order and evenly spaced point groups in the order they were drawn, each
    modality by its share. The first call is full, as it is for every method."""

    name = "uniform"
    bucket = 1

    def __init__(self, keep_ratio: float) -> None:
        self.keep_ratio = check_keep_ratio(keep_ratio)
        self.reset()

    def reset(self) -> None:
        self._first = True

    def select(self, layout: TokenLayout) -> Selection:
        if self._first or self.keep_ratio == 1:
            return Selection.full(layout)
        reason = np.full(layout.num_visual, Reason.DROPPED, np.int8)
        budget, n2 = token_budget(layout, self.keep_ratio, self.bucket), layout.num_image
        image = round(budget * n2 / layout.num_visual)
        for start, total, count in ((0, n2, image), (n2, layout.num_points, budget - image)):
            reason[start + (np.arange(count) * total) // max(1, count)] = Reason.CHOSEN
        return Selection(reason, n2)

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        self._first = False
