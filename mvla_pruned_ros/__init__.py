"""Token-pruned multi-visual-modal VLA policies on ROS 2.

The names below, and those of ``policy``, ``pruning`` and ``messages``, are what other code may rely on; everything else
may move. They are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any


def _lazily(package: str, homes: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """``__getattr__`` of a package. homes: module below it -> the names that it lends to the package."""
    module_of = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)

    return get


_HOMES = {
    "policy.base": ("NotReadyError", "Policy", "PolicyOutput"),
    "policy.runtime": ("PolicyRuntime",),
    "policy.source": ("load_policy",),
    "pruning.base": ("Pruner",),
    "pruning.methods": ("make_pruner",),
    "pruning.tri_stage.config": ("TriStageConfig",),
    "pruning.types": ("Evidence", "Selection", "TokenLayout"),
    "types": ("ActionChunk", "ArmState", "CameraModel", "Observation", "View"),
}
__all__ = [
    "ActionChunk",
    "ArmState",
    "CameraModel",
    "Evidence",
    "NotReadyError",
    "Observation",
    "Policy",
    "PolicyOutput",
    "PolicyRuntime",
    "Pruner",
    "Selection",
    "TokenLayout",
    "TriStageConfig",
    "View",
    "load_policy",
    "make_pruner",
]

if TYPE_CHECKING:
    from .policy.base import NotReadyError, Policy, PolicyOutput
    from .policy.runtime import PolicyRuntime
    from .policy.source import load_policy
    from .pruning.base import Pruner
    from .pruning.methods import make_pruner
    from .pruning.tri_stage.config import TriStageConfig
    from .pruning.types import Evidence, Selection, TokenLayout
    from .types import ActionChunk, ArmState, CameraModel, Observation, View
else:
    __getattr__ = _lazily(__name__, _HOMES)
