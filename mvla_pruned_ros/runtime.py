"""The one way from an observation to actions: prepare, select, act, learn for the next call.

Evaluation, replay and the ROS node all go through ``PolicyRuntime.infer``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .policy.interface import Policy, StageTimer
from .pruning.interface import Pruner
from .pruning.types import PruningStats, Selection, TokenLayout
from .types import ActionChunk, Observation


class NonFiniteActionError(RuntimeError):
    """The policy returned NaN or Inf: nothing of the chunk may reach the robot."""


@dataclass(frozen=True)
class Inference:
    """What one call produced.

    Attributes:
        chunk: actions for the steps from the observation's stamp on.
        selection: which visual tokens stayed, and why. layout: where they lie.
        stats: counts of the selection.
        stage_ms: milliseconds of prepare, select, tokenize, backbone, head.
    """

    chunk: ActionChunk
    selection: Selection
    layout: TokenLayout
    stats: PruningStats
    stage_ms: dict[str, float]

    @property
    def policy_ms(self) -> float:
        """Milliseconds of the whole call."""
        return sum(self.stage_ms.values())


class PolicyRuntime:
    """A policy and its pruner. Not safe to call from two threads at once."""

    def __init__(self, policy: Policy, pruner: Pruner) -> None:
        self.policy = policy
        self.pruner = pruner

    def reset(self) -> None:
        """Forget the episode: the next call is full. Call it on a new episode, a clock jump, a camera change."""
        self.policy.reset()
        self.pruner.reset()

    def infer(self, observation: Observation) -> Inference:
        """Actions for an observation.

        Raises:
            NotReadyError: the observation cannot be acted on.
            NonFiniteActionError: the policy's answer is not finite.
            ValueError: the policy cannot follow the instruction, or proprio has another length.
        """
        timer = StageTimer()
        with timer.stage("prepare"):
            prepared = self.policy.prepare(observation)
        with timer.stage("select"):
            selection = self.pruner.select(prepared.layout)
        output = self.policy.act(prepared, selection, observation.instruction, timer)
        if not np.isfinite(output.actions).all():
            self.reset()
            raise NonFiniteActionError("the policy returned actions that are not finite; its chunk was discarded")
        if output.selection.rule is not None:
            raise ValueError(
                f"the policy ignored the rule of method {self.pruner.name!r}, which prunes inside the call"
            )
        selection = output.selection
        with timer.stage("select"):
            self.pruner.observe(prepared.layout, selection, output.evidence)
        return Inference(
            chunk=ActionChunk(observation.stamp_ns, self.policy.step_s, output.actions),
            selection=selection,
            layout=prepared.layout,
            stats=PruningStats.of(selection),
            stage_ms=timer.ms,
        )
