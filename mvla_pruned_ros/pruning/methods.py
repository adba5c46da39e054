"""Selection rules by name."""

from __future__ import annotations

from .baselines import NoPruning, RandomPruning
from .config import TriStageConfig
from .interface import Pruner
from .tri_stage import TriStagePruner

METHODS = ("none", "random", "tri_stage")


def make_pruner(method: str, keep_ratio: float, config: TriStageConfig | None = None, seed: int = 0) -> Pruner:
    """A pruner.

    Args:
        method: one of ``METHODS``. keep_ratio: visual tokens kept / visual tokens in; ``none`` keeps all.
        config: of tri_stage. seed: of every random choice.

    Raises:
        ValueError: unknown method or keep ratio outside (0, 1].
    """
    if method == "none":
        return NoPruning()
    if method == "random":
        return RandomPruning(keep_ratio, seed)
    if method == "tri_stage":
        return TriStagePruner(keep_ratio, config or TriStageConfig(), seed)
    raise ValueError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
