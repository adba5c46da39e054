"""What a policy must offer to be pruned and run. Implement it to bring your own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..pruning.types import Evidence, Selection, TokenLayout
from ..types import Observation


class PreparedInput(Protocol):
    """An observation made ready by the policy, whatever else it holds."""

    @property
    def layout(self) -> TokenLayout:
        """Where the visual tokens of this call lie."""


@dataclass(frozen=True)
class PolicyOutput:
    """What one call returns.

    Attributes:
        actions: (chunk, A) float32, physical units, the first for the stamp of the observation.
        evidence: of the visual tokens that were kept, in the order of the selection.
        selection: as it was carried out: the one that was given, after its rule, if it has one, has chosen.
    """

    actions: np.ndarray
    evidence: Evidence
    selection: Selection


@dataclass
class StageTimer:
    """Milliseconds of each stage of one policy call, by name, in order.

    On a GPU each stage is closed by a synchronisation of ``device`` when ``synchronise`` is set; otherwise
    what is measured there is the time to enqueue it.
    """

    ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.ms[name] = self.ms.get(name, 0.0) + (time.perf_counter() - start) * 1e3


class Policy(Protocol):
    """A multi-visual-modal policy: image and point tokens in, a chunk of actions out.

    Attributes:
        chunk_size, action_dim, step_s: form of the chunk.
        device_name: where it runs, for people to read.
    """

    chunk_size: int
    action_dim: int
    step_s: float
    device_name: str

    def reset(self) -> None:
        """Forget the episode, random draws included: the same observations give the same actions after it."""

    def check_instruction(self, instruction: str) -> None:
        """Raise ValueError, saying why, when the policy cannot follow this instruction."""

    def prepare(self, observation: Observation) -> Any:
        """Make an observation ready (``PreparedInput``); raises NotReadyError when it cannot be acted on."""

    def act(self, prepared: Any, selection: Selection, instruction: str, timer: StageTimer) -> PolicyOutput:
        """Encode the tokens the selection keeps, and no others, and predict the actions.

        Raises:
            ValueError: the selection has a rule and this policy cannot prune inside the call.
        """

    def memory_mb(self) -> float:
        """Device memory in use, MB; 0 where it is not known."""
