"""A salience schedule: what kinds of tokens mattered in recordings, computed once and never looked at again (ours).

A control for the live evidence that the tri-stage pruner lives on: if this were as good, attention would not have to be
read at all. Kinds of tokens are told by geometry alone, so a schedule of one policy can be given to another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..base import top
from ..types import TokenLayout
from .simple import ChoosingPruner

# Borders of distance to the end effector, in multiples of the spacing of tokens: 4, 8, ..., 40 cm for ``small``.
EDGES = (0.77, 1.54, 2.31, 3.08, 3.85, 4.81, 5.77, 7.69)


def kinds_of(layout: TokenLayout) -> np.ndarray:
    """(N,) int kind of each visual token: its modality, and how far from the end effector it lies; patches that show
    no point of the workspace are a kind of their own."""
    distance = np.linalg.norm(layout.positions - layout.end_effector, axis=1) / layout.spacing
    unplaced = len(EDGES) + 1
    step = np.where(np.isfinite(distance), np.searchsorted(EDGES, np.nan_to_num(distance, nan=0.0)), unplaced)
    return step + (np.arange(layout.num_visual) >= layout.num_image) * (unplaced + 1)


NUM_KINDS = 2 * (len(EDGES) + 2)


@dataclass(frozen=True)
class SalienceSchedule:
    """salience: (NUM_KINDS,) mean attention of a token of each kind, in multiples of the mean token of its call; 0 for
    kinds that were never seen."""

    salience: np.ndarray

    @classmethod
    def of_calls(cls, calls: Iterable[tuple[TokenLayout, np.ndarray]]) -> SalienceSchedule:
        """From unpruned calls: where their tokens lay and the (N,) attention that each got."""
        total, count = np.zeros(NUM_KINDS), np.zeros(NUM_KINDS)
        for layout, attention in calls:
            kinds = kinds_of(layout)
            total += np.bincount(kinds, attention / max(float(attention.mean()), 1e-12), NUM_KINDS)
            count += np.bincount(kinds, minlength=NUM_KINDS)
        return cls(total / np.maximum(count, 1))


class SchedulePruner(ChoosingPruner):
    """Keeps the tokens whose kind ranks highest, and a random part of the last kind that fits in. The first call is
    full, as it is for every method."""

    name = "schedule"

    def __init__(self, keep_ratio: float, schedule: SalienceSchedule, seed: int = 0) -> None:
        super().__init__(keep_ratio, seed)
        self._schedule = schedule

    def choose(self, layout: TokenLayout, count: int) -> np.ndarray:
        order = self._rng.permutation(layout.num_visual)
        rank = self._schedule.salience[kinds_of(layout)]
        return order[top(rank[order], count)]
