"""Recorded calls of an unpruned policy, whatever recorded them, and how far pruning moves their actions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ...policy.base import Policy
from ...policy.engine.stage_timer import StageTimer
from ...pruning.base import Pruner
from ...pruning.types import Selection

HORIZON = 8  # actions that are compared: about those that are executed before the next chunk is there


class RecordedEpisode(Hashable, Protocol):
    """Where consecutive calls come from. Can be hashed and pickled: each process keeps what it made of it.

    Attributes:
        group: name of what it belongs to, a task or a bag. Groups weigh alike, however many episodes they have.
        seed: of the random choices of the pruners that are judged on it.
    """

    @property
    def group(self) -> str: ...

    @property
    def seed(self) -> int: ...

    def show(self, policy: Policy) -> tuple[str, Sequence[Any]]:
        """The instruction, and what the policy is given at each call: at least two."""


@dataclass(frozen=True)
class Recording:
    """One episode of an unpruned policy.

    Attributes:
        instruction: words. prepared: what the policy was given at each call.
        actions: (calls, HORIZON, A) what it answered, physical units; fewer than HORIZON of a shorter chunk.
        attention: what each call showed, (N,) each; see ``Evidence``.
    """

    instruction: str
    prepared: tuple[Any, ...]
    actions: np.ndarray
    attention: tuple[np.ndarray, ...]


def unpruned(policy: Policy, episode: RecordedEpisode) -> Recording:
    """What the policy answers to an episode when it keeps every token.

    The policy's random draws begin anew before each call, here and in ``action_error``, so that a difference is that
    of pruning.
    """
    instruction, prepared = episode.show(policy)
    outputs = []
    for one in prepared:
        policy.reset()
        outputs.append(policy.act(one, Selection.full(one.layout), instruction, StageTimer()))
    actions = np.stack([output.actions[:HORIZON] for output in outputs])
    return Recording(instruction, tuple(prepared), actions, tuple(output.evidence.attention for output in outputs))


def action_error(policy: Policy, recording: Recording, pruner: Pruner, scale: np.ndarray) -> float:
    """How far pruning moves the actions of a recording.

    The pruner goes through the episode as it would live, with its own memory. Its first call is full and not counted.

    Args:
        policy: that made the recording. recording: at least two calls. pruner: is reset.
        scale: (A,) what counts as one, per action dimension.

    Returns:
        Mean absolute difference to the unpruned actions, in units of ``scale``.
    """
    pruner.reset()
    errors = []
    for prepared, actions in zip(recording.prepared, recording.actions):
        policy.reset()
        selection = pruner.select(prepared.layout)
        output = policy.act(prepared, selection, recording.instruction, StageTimer())
        pruner.observe(prepared.layout, output.selection, output.evidence)
        errors.append(float(np.abs((output.actions[:HORIZON] - actions) / scale).mean()))
    return float(np.mean(errors[1:]))
