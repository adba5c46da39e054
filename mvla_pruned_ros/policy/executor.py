"""One call of a policy model, whatever the model: tokenize, rule before the backbone, backbone, decode, evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..pruning.in_call import CallView, InCallRule
from ..pruning.types import Evidence
from .backbone import BackboneOutput, Prefix
from .interface import StageTimer


class PolicyModel(Protocol):
    """What the executor needs of a network (batch 1 in its hands)."""

    @property
    def evidence_layers(self) -> tuple[int, ...]:
        """Backbone layers whose attention is read."""

    @property
    def noise_shape(self) -> tuple[int, ...] | None:
        """(chunk, A) of the noise that ``decode`` starts from; None where it starts from nothing."""

    def tokenize(self, batch: Any) -> Prefix:
        """Encode the tokens that the batch says stay."""

    def decode(
        self, prefix: Prefix, *, evidence: bool = ..., noise: Tensor | None = ..., rule: InCallRule | None = ...,
        reuse_prefix: bool = ..., retokenize: Callable[[], Prefix] | None = ...,
    ) -> tuple[Tensor, BackboneOutput]:  # fmt: skip
        """(1, chunk, A) normalised actions and the output of the first pass: see ``MVLAModel.decode``."""

    def call_view(self, prefix: Prefix, attention: Tensor | None = ...) -> CallView:
        """What a rule may look at."""


@dataclass(frozen=True)
class CallResult:
    """What one call gave.

    Attributes:
        chunk: (chunk, A) float32, normalised. evidence: of the visual tokens that were left.
        chosen: (M,) indices, of the visual tokens encoded, that a rule left; None without a rule.
    """

    chunk: np.ndarray
    evidence: Evidence
    chosen: np.ndarray | None


class Executor:
    """Runs calls of a model. Not safe to use from two threads at once."""

    def __init__(self, model: PolicyModel, device: torch.device, seed: int = 0, recompute: bool = False) -> None:
        """
        Args:
            model: on ``device``, in eval mode. seed: of the noise that diffusion starts from.
            recompute: encode and run everything again at each denoising step, as upstream does; slower, with the same
                result within float tolerance. It is there to be compared with.
        """
        self._model, self._device, self._seed, self._recompute = model, device, seed, recompute
        self._noise = torch.Generator()
        self.reset()

    def reset(self) -> None:
        """Draw the same noise as at the start from here on."""
        self._noise.manual_seed(self._seed)

    @torch.inference_mode()
    def run(self, batch: Any, rule: InCallRule | None, timer: StageTimer) -> CallResult:
        """One call; times the stages tokenize, select (a rule before the backbone), backbone and head.

        Args:
            batch: of one sample, as the model's ``tokenize`` takes it. rule: chooses inside the call.

        Raises:
            ValueError: the rule cuts after the first layer whose attention is read.
        """
        model, chosen, shape = self._model, None, self._model.noise_shape
        if rule is not None and rule.layer > min(model.evidence_layers):
            raise ValueError(
                f"the rule cuts after layer {rule.layer}, but attention is read from layer "
                f"{min(model.evidence_layers)} on (evidence_layers {model.evidence_layers})"
            )
        with timer.stage("tokenize"):
            prefix = model.tokenize(batch)
        if rule is not None and rule.layer == 0:
            with timer.stage("select"):
                chosen, rule = rule.choose(model.call_view(prefix)), None
                prefix = prefix.keep_visual(chosen)[0]

        def retokenize() -> Prefix:
            again = model.tokenize(batch)
            return again if chosen is None else again.keep_visual(chosen)[0]

        with timer.stage("backbone"):
            noise = None if shape is None else torch.randn((1, *shape), generator=self._noise).to(self._device)
            chunk, out = model.decode(
                prefix,
                evidence=True,
                noise=noise,
                rule=rule,
                reuse_prefix=not self._recompute,
                retokenize=retokenize if self._recompute else None,
            )
        with timer.stage("head"):
            actions = chunk[0].float().cpu().numpy()
            assert out.norm is not None and out.attention is not None
            evidence = Evidence(out.norm[0].cpu().numpy(), out.attention[0].float().cpu().numpy())
            chosen = out.chosen if chosen is None else chosen
            return CallResult(actions, evidence, None if chosen is None else chosen.cpu().numpy())
