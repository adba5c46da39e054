"""What a view is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..policy.runtime import Inference
from ..types import Observation


@dataclass(frozen=True)
class Call:
    """One policy call. latency_ms: from the arrival of its image to its actions; None outside the node."""

    observation: Observation
    inference: Inference
    latency_ms: float | None = None


@dataclass(frozen=True)
class Status:
    """What the node says of itself about once a second.

    Attributes:
        stamp_ns: node clock. level: OK, WARN, ERROR or STALE. message: of its diagnostics.
        counts: of commands, by name, since the node's start.
    """

    stamp_ns: int
    level: str
    message: str
    counts: Mapping[str, int] = field(default_factory=dict)
