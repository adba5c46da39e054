"""Policies: the interface, loading by name, and the one way to run them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _lazily

_HOMES = {
    "base": ("NotReadyError", "Policy", "PolicyOutput", "PreparedInput"),
    "conformance": ("check_policy",),
    "engine.weight_files": ("CheckpointError",),
    "runtime": ("Inference", "PolicyRuntime"),
    "source": ("load_policy",),
}
__all__ = [
    "CheckpointError",
    "Inference",
    "NotReadyError",
    "Policy",
    "PolicyOutput",
    "PolicyRuntime",
    "PreparedInput",
    "check_policy",
    "load_policy",
]

if TYPE_CHECKING:
    from .base import NotReadyError, Policy, PolicyOutput, PreparedInput
    from .conformance import check_policy
    from .engine.weight_files import CheckpointError
    from .runtime import Inference, PolicyRuntime
    from .source import load_policy
else:
    __getattr__ = _lazily(__name__, _HOMES)
