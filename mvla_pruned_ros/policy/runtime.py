"""The one way from an observation to actions: prepare, select, act, learn for the next call.

Evaluation, replay and the ROS node all go through ``PolicyRuntime.infer``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..pruning.base import Pruner
from ..pruning.baselines.simple import NoPruning
from ..pruning.types import PruningStats, Selection, TokenLayout
from ..types import ActionChunk, Observation
from .base import Policy, PolicyOutput
from .engine.stage_timer import StageTimer


class NonFiniteActionError(RuntimeError):
    """The policy returned NaN or Inf: nothing of the chunk may reach the robot."""


class NonFiniteEvidenceError(RuntimeError):
    """The policy's attention or feature norms are NaN or Inf: nothing can be learned from them for the next call."""


class ActionShapeError(RuntimeError):
    """The policy returned no chunk of actions of the length it declares: nothing of it may reach the robot."""


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
        """Milliseconds of the whole call, from the observation on."""
        return sum(self.stage_ms.values())

    @property
    def call_ms(self) -> float:
        """Milliseconds from the prepared input on: choosing tokens, towers, backbone, actions on the host."""
        return self.policy_ms - self.stage_ms.get("prepare", 0.0)


@dataclass(frozen=True)
class WarmUp:
    """What the calls on made-up input took.

    Attributes:
        first_ms: the very first, with everything that is done once. full_ms, pruned_ms: medians of later calls with all
            tokens and with those that the pruner keeps, selection included.
    """

    first_ms: float
    full_ms: float
    pruned_ms: float

    @property
    def pruning_pays(self) -> bool:
        """Whether a pruned call is faster than a full one."""
        return self.pruned_ms < self.full_ms


class PolicyRuntime:
    """A policy and its pruner. Not safe to call from two threads at once.

    Attributes:
        policy, pruner: may be replaced between calls.
        prune: False makes full calls, as if the pruner were not there.
        calls: made since the last reset, those that failed left out.
    """

    def __init__(self, policy: Policy, pruner: Pruner) -> None:
        self.policy = policy
        self.pruner = pruner
        self.prune = True
        self.calls = 0

    def warm_up(self, observation: Observation, rounds: int = 5) -> WarmUp:
        """Make calls whose actions nobody uses, then forget them.

        Kernels are chosen, memory is taken and graphs are recorded at the first call of a shape: afterwards the shapes
        of a full call and of a pruned one are ready. Full and pruned calls take turns, so that a slow moment of the
        machine hits both.
        """
        full, pruned = PolicyRuntime(self.policy, NoPruning()), PolicyRuntime(self.policy, self.pruner)
        start = time.perf_counter()
        pruned.infer(observation)  # full as well: the first call of every method is
        first_ms = (time.perf_counter() - start) * 1e3
        pruned.infer(observation)
        calls = [(full.infer(observation).call_ms, pruned.infer(observation).call_ms) for _ in range(rounds)]
        self.reset()
        self.policy.seal()
        full_ms, pruned_ms = np.median(np.array(calls), 0)
        return WarmUp(first_ms, float(full_ms), float(pruned_ms))

    def reset(self) -> None:
        """Forget the episode: the next call is full. Call it on a new episode, a clock jump, a camera change."""
        self.policy.reset()
        self.pruner.reset()
        self.calls = 0

    def infer(self, observation: Observation, prepared: Any = None) -> Inference:
        """Actions for an observation.

        Args:
            prepared: what ``policy.prepare`` made of this observation, where that was done before; there is no stage
                ``prepare`` then.

        Raises:
            NotReadyError: the observation cannot be acted on.
            NonFiniteActionError: the policy's answer is not finite.
            NonFiniteEvidenceError: its evidence is not.
            ActionShapeError: it is not (chunk, action_dim) with at least one action.
            ValueError: the policy cannot follow the instruction, or takes what the observation lacks.
        """
        pruner = self.pruner if self.prune else NoPruning()
        pruner.bucket = self.policy.token_bucket
        timer = StageTimer(self.policy.device)
        if prepared is None:
            with timer.stage("prepare"):
                prepared = self.policy.prepare(observation)
        with timer.stage("select"):
            selection = pruner.select(prepared.layout)
        output = self.policy.act(prepared, selection, observation.instruction, timer)
        self._check(output)
        if output.selection.rule is not None:
            raise ValueError(f"the policy ignored the rule of method {pruner.name!r}, which prunes inside the call")
        selection = output.selection
        with timer.stage("select"):
            pruner.observe(prepared.layout, selection, output.evidence)
        self.calls += 1
        return Inference(
            chunk=ActionChunk(
                observation.stamp_ns,
                self.policy.step_s,
                output.actions,
                np.asarray(prepared.layout.end_effector, float),
            ),
            selection=selection,
            layout=prepared.layout,
            stats=PruningStats.of(selection),
            stage_ms=timer.ms,
        )

    def _check(self, output: PolicyOutput) -> None:
        """Forget the episode and raise when an answer cannot be used; see ``infer``."""
        shape = output.actions.shape
        error: RuntimeError | None = None
        if len(shape) != 2 or shape[0] < 1 or shape[1] != self.policy.action_dim:
            error = ActionShapeError(
                f"the policy returned actions of shape {shape}, needs (chunk, {self.policy.action_dim}); its chunk was "
                "discarded"
            )
        elif not np.isfinite(output.actions).all():
            error = NonFiniteActionError("the policy returned actions that are not finite; its chunk was discarded")
        elif wrong := output.evidence.not_finite():
            error = NonFiniteEvidenceError(
                f"the policy returned evidence that is not finite ({', '.join(wrong)}), and selection would go by it "
                "for the rest of the episode; its chunk was discarded"
            )
        if error is not None:
            self.reset()
            raise error
