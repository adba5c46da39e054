"""Salience over one episode: its segments, and how alike the calls are.

A point token is another group in every frame, so calls are compared after the older one was carried to the tokens of
the newer one in space, with the function that pruning itself uses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..pruning.tri_stage.config import TriStageConfig
from ..pruning.tri_stage.temporal import SalienceMemory, carry, update
from ..pruning.types import TokenLayout


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two (N,) arrays; NaN when one is all zero."""
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 0 else float("nan")


def total_variation(a: np.ndarray, b: np.ndarray) -> float:
    """Half the sum of differences between two (N,) distributions: 0 for equal ones, 1 for disjoint ones."""
    return 0.5 * float(np.abs(a - b).sum())


def segments(
    layouts: Sequence[TokenLayout], attentions: Sequence[np.ndarray], config: TriStageConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Where new segments of an episode begin, by the rule of stage III (``pruning.dynamics.update``).

    Args:
        layouts: of T calls that kept every token. attentions: T times (N,).
        config: of stage III.

    Returns:
        (T,) total variation between what stage III predicted and what the call showed, NaN for the first;
        (T,) bool, True where a segment begins, the first call included.
    """
    error, begins = np.full(len(layouts), np.nan), np.zeros(len(layouts), bool)
    memory: SalienceMemory | None = None
    for i, (layout, attention) in enumerate(zip(layouts, attentions)):
        seen = SalienceMemory.seen(layout, attention)
        if memory is None:
            memory, begins[i] = seen, True
            continue
        predicted = carry(memory, layout, config.lengths(layout.spacing))
        error[i] = total_variation(predicted.salience, seen.salience)
        kept = np.ones(layout.num_visual, bool)
        smoothing = config.smoothing_after(layout.seconds_since(memory.layout))
        memory, begins[i] = update(predicted, kept, attention, smoothing, config.segment_threshold)
    return error, begins


def similarity(
    layouts: Sequence[TokenLayout], attentions: Sequence[np.ndarray], lag: int, config: TriStageConfig
) -> tuple[np.ndarray, np.ndarray]:
    """How alike the salience of two calls is that are ``lag`` calls apart.

    Args:
        layouts: of T calls that kept every token. attentions: T times (N,). lag: at least 1.
        config: its lengths say what moves with the end effector, and what is the same place.

    Returns:
        (max(0, T - lag),) cosine, 1 for the same pattern, and total variation, 0 for the same.
    """
    cosines, variations = [], []
    for i in range(lag, len(layouts)):
        old = SalienceMemory.seen(layouts[i - lag], attentions[i - lag])
        expected = carry(old, layouts[i], config.lengths(layouts[i].spacing)).salience
        seen = SalienceMemory.seen(layouts[i], attentions[i]).salience
        cosines.append(cosine(expected, seen))
        variations.append(total_variation(expected, seen))
    return np.array(cosines), np.array(variations)
