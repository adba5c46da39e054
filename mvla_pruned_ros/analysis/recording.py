"""Unpruned policy calls, kept with everything they showed."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..policy.base import Policy
from ..policy.mvla.preprocess import view_squares
from ..policy.runtime import Inference, PolicyRuntime
from ..pruning.baselines.simple import NoPruning
from ..pruning.types import Evidence, Selection, TokenLayout
from ..types import CameraModel, Observation

PICTURE_PX = 288  # about this many pixels along an edge of a kept picture


@dataclass(frozen=True)
class Call:
    """One policy call.

    Attributes:
        episode: 0 for the first. stamp_ns: of the observation. instruction: words.
        layout, evidence: of all visual tokens; the call was unpruned.
        jpegs: of each view the square that the policy saw, a whole number of pixels per patch. cameras: their models.
    """

    episode: int
    stamp_ns: int
    instruction: str
    layout: TokenLayout
    evidence: Evidence
    jpegs: list[bytes]
    cameras: list[CameraModel]

    @property
    def pictures(self) -> list[np.ndarray]:
        """(S, S, 3) uint8 RGB of each view."""
        return [np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in self.jpegs]


def _jpeg(picture: np.ndarray) -> bytes:
    """A recording of minutes would fill the memory with plain pixels."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


class KeepEvidence(NoPruning):
    """Prunes nothing and keeps the evidence of the last call."""

    evidence: Evidence | None = None

    def observe(self, layout: TokenLayout, selection: Selection, evidence: Evidence) -> None:
        super().observe(layout, selection, evidence)
        self.evidence = evidence


class RecordingRuntime(PolicyRuntime):
    """A runtime that prunes nothing and keeps its calls until they are taken. A reset begins a new episode."""

    def __init__(self, policy: Policy) -> None:
        self._keep = KeepEvidence()
        super().__init__(policy, self._keep)
        self._episode = -1
        self._calls: list[Call] = []

    def reset(self) -> None:
        super().reset()
        self._episode += 1

    def infer(self, observation: Observation, prepared: Any = None) -> Inference:
        """See ``PolicyRuntime.infer``."""
        inference = super().infer(observation, prepared)
        assert self._keep.evidence is not None
        layout = inference.layout
        squares = view_squares(observation.chosen_views(layout.views), layout.grids, PICTURE_PX)
        self._calls.append(
            Call(
                episode=max(0, self._episode),
                stamp_ns=observation.stamp_ns,
                instruction=observation.instruction,
                layout=layout,
                evidence=self._keep.evidence,
                jpegs=[_jpeg(picture) for picture, _ in squares],
                cameras=[camera for _, camera in squares],
            )
        )
        return inference

    def take(self) -> list[Call]:
        """The calls since the last ``take``."""
        calls, self._calls = self._calls, []
        return calls
