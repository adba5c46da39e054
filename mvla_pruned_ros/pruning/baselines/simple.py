"""Selection rules that look at nothing: everything, nothing, a random part, an evenly spaced part."""

from __future__ import annotations

import numpy as np

from ..base import BudgetPruner
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


class Blind:
    """No visual token, not even in the first call: what a policy does that sees nothing. A floor to compare with."""

    name = "blind"
    bucket = 1

    def __init__(self) -> None:
        self.keep_ratio = 0.0

    def reset(self) -> None:
        pass

    def select(self, layout: TokenLayout) -> Selection:
        return Selection(np.full(layout.num_visual, Reason.DROPPED, np.int8), layout.num_image)

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        pass


class ChoosingPruner(BudgetPruner):
    """Keeps what ``choose`` chooses. Args: seed: of random choices."""

    def __init__(self, keep_ratio: float, seed: int = 0) -> None:
        self._seed = seed
        super().__init__(keep_ratio)

    def reset(self) -> None:
        super().reset()
        self._rng = np.random.default_rng(self._seed)

    def prune(self, layout: TokenLayout, budget: int) -> Selection:
        reason = np.full(layout.num_visual, Reason.DROPPED, np.int8)
        reason[self.choose(layout, budget)] = Reason.CHOSEN
        return Selection(reason, layout.num_image)

    def choose(self, layout: TokenLayout, count: int) -> np.ndarray:
        """(count,) indices of the tokens that stay."""
        raise NotImplementedError


class RandomPruning(ChoosingPruner):
    """A uniformly random part, drawn anew each call."""

    name = "random"

    def choose(self, layout: TokenLayout, count: int) -> np.ndarray:
        return self._rng.choice(layout.num_visual, count, replace=False)


class UniformPruning(ChoosingPruner):
    """Evenly spaced patches in reading order and evenly spaced point groups in the order they were drawn, each
    modality by its share."""

    name = "uniform"

    def choose(self, layout: TokenLayout, count: int) -> np.ndarray:
        n2 = layout.num_image
        image = round(count * n2 / layout.num_visual)
        parts = ((0, n2, image), (n2, layout.num_points, count - image))
        return np.concatenate([start + np.arange(part) * total // max(1, part) for start, total, part in parts])
