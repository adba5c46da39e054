"""Selection rules by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..configuration.reader import check_names
from .tri_stage.config import TriStageConfig

if TYPE_CHECKING:
    from .base import Pruner

METHODS = ("none", "random", "uniform", "fastv", "divprune", "dart", "vla_pruner", "vla_adp", "tri_stage")
# Sees nothing: a floor for evaluations. Not among the methods that robots and recordings are offered.
BLIND = "blind"
EVALUATED = (*METHODS, BLIND)


def check_method(name: str) -> str:
    """The name, if it is one of ``METHODS``.

    Raises:
        ValueError: it is not; the message names the nearest, or lists them.
    """
    check_names([name], METHODS, "method")
    return name


def make_pruner(method: str, keep_ratio: float, config: TriStageConfig | None = None, seed: int = 0) -> Pruner:
    """A pruner.

    Args:
        method: one of ``EVALUATED``. keep_ratio: visual tokens kept / visual tokens in; ``none`` keeps all, ``blind``
            keeps none.
        config: of tri_stage. seed: of every random choice.

    Raises:
        ValueError: unknown method or keep ratio outside (0, 1].
    """
    # Imported here: names are wanted where numpy, scipy and torch are not, for help on the command line.
    from .baselines.dart import DartPruner
    from .baselines.divprune import DivPrunePruner
    from .baselines.fastv import FastVPruner
    from .baselines.simple import Blind, NoPruning, RandomPruning, UniformPruning
    from .baselines.vla_adp import VlaAdpPruner
    from .baselines.vla_pruner import VlaPrunerPruner
    from .tri_stage.pruner import TriStagePruner

    check_names([method], EVALUATED, "method")
    match method:
        case "none":
            return NoPruning()
        case "blind":
            return Blind()
        case "random":
            return RandomPruning(keep_ratio, seed)
        case "tri_stage":
            return TriStagePruner(keep_ratio, config or TriStageConfig(), seed)
    others = (UniformPruning, FastVPruner, DivPrunePruner, DartPruner, VlaPrunerPruner, VlaAdpPruner)
    return {kind.name: kind for kind in others}[method](keep_ratio)
