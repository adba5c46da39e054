"""Which visual tokens a policy call keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _lazily

_HOMES = {
    "base": ("Pruner",),
    "in_call": ("CallView", "InCallRule"),
    "methods": ("METHODS", "make_pruner"),
    "tri_stage.config": ("TriStageConfig",),
    "types": ("Evidence", "PruningStats", "Reason", "Selection", "SemanticSet", "TokenLayout"),
}
__all__ = [
    "CallView",
    "Evidence",
    "InCallRule",
    "METHODS",
    "Pruner",
    "PruningStats",
    "Reason",
    "Selection",
    "SemanticSet",
    "TokenLayout",
    "TriStageConfig",
    "make_pruner",
]

if TYPE_CHECKING:
    from .base import Pruner
    from .in_call import CallView, InCallRule
    from .methods import METHODS, make_pruner
    from .tri_stage.config import TriStageConfig
    from .types import Evidence, PruningStats, Reason, Selection, SemanticSet, TokenLayout
else:
    __getattr__ = _lazily(__name__, _HOMES)
