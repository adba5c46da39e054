"""Fitting of the tri-stage parameters: least change of the policy's actions on recorded episodes.

Success in closed loop needs hundreds of episodes to tell two settings apart. How far pruning moves the actions of the
very same observations is a number without that noise, and a recording from a real robot gives it just as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...policy.base import Policy
from ...policy.engine.stage_timer import StageTimer
from ...policy.runtime import PolicyRuntime
from ...pruning.base import Pruner
from ...pruning.baselines.simple import NoPruning
from ...pruning.tri_stage.config import TriStageConfig
from ...pruning.types import Selection
from ..success.rollout import REPLAN_STEPS, run_episode

HORIZON = 2 * REPLAN_STEPS  # actions that may be executed before the next chunk is there

# What is tried for each parameter; coordinate descent in this order. Two are not among them: a recording goes on as if
# nothing had happened when an action is wrong, so it cannot show what returning tokens and tokens of the arm itself are
# for. return_share, fitted like the others, came out at 0.05, and drawer-open at keep 0.125 fell from 12 to 6 of 20;
# robot_share raised it from 12 to 20 (seeds from 5000 on).
GRID: dict[str, tuple[Any, ...]] = {
    "smoothing": (0.2, 0.35, 0.5, 0.75, 1.0),
    "protected_share": (0.0, 0.3, 0.5, 0.7, 0.9),
    "robot_radius_m": (0.05, 0.08, 0.1, 0.15),
    "object_threshold": (0.5, 1.0, 1.5, 2.0, 3.0),
    "background_share": (0.0, 0.05, 0.1),
    "overlap_discount": (0.0, 0.25, 0.5, 0.75),
    "segment_threshold": (0.2, 0.35, 0.5, 1.0),
    "stage_modality": (True, False),
    "modality_floor": (0.0, 0.2, 0.5, 0.8),  # this and the window have no effect without stage I
    "window": (1, 2, 4, 8),
}

# A step has to gain so much, relatively: smaller ones are within what other episodes would change.
MIN_GAIN = 0.02


@dataclass(frozen=True)
class Recording:
    """One episode of an unpruned policy.

    Attributes:
        task: name. instruction: words. prepared: what the policy was given at each call.
        actions: (calls, HORIZON, A) what it answered, physical units.
        attention: what each call showed, (N,) each; see ``Evidence``.
    """

    task: str
    instruction: str
    prepared: tuple[Any, ...]
    actions: np.ndarray
    attention: tuple[np.ndarray, ...]


class _Tap:
    """A policy that keeps what passes through it."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.prepared: list[Any] = []
        self.actions: list[np.ndarray] = []
        self.attention: list[np.ndarray] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def act(self, prepared: Any, selection: Selection, instruction: str, timer: StageTimer) -> Any:
        output = self._policy.act(prepared, selection, instruction, timer)
        self.prepared.append(prepared)
        self.actions.append(output.actions[:HORIZON])
        self.attention.append(output.evidence.attention)
        return output


def record_unpruned(robot: Any, policy: Policy, seed: int) -> Recording:
    """Let the unpruned policy drive the simulated robot for one episode."""
    tap = _Tap(policy)
    run_episode(robot, PolicyRuntime(tap, NoPruning()), seed)
    task = robot.task
    return Recording(task.name, task.instruction, tuple(tap.prepared), np.stack(tap.actions), tuple(tap.attention))


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
        selection = pruner.select(prepared.layout)
        output = policy.act(prepared, selection, recording.instruction, StageTimer())
        pruner.observe(prepared.layout, output.selection, output.evidence)
        errors.append(float(np.abs((output.actions[:HORIZON] - actions) / scale).mean()))
    return float(np.mean(errors[1:]))


def neighbours(config: TriStageConfig, grid: dict[str, tuple[Any, ...]] = GRID) -> Iterator[tuple[str, TriStageConfig]]:
    """Settings that differ from ``config`` in one parameter, with its name."""
    for name, values in grid.items():
        for value in values:
            if value != getattr(config, name):
                yield name, dataclasses.replace(config, **{name: value})


def descend(
    evaluate: Callable[[list[TriStageConfig]], Iterable[float]],
    start: TriStageConfig,
    rounds: int,
    on_better: Callable[[str, TriStageConfig, float], None],
    grid: dict[str, tuple[Any, ...]] = GRID,
) -> tuple[TriStageConfig, float]:
    """Coordinate descent: parameter by parameter the best value of its list, where it gains at least ``MIN_GAIN``, for
    some rounds or until nothing helps.

    Args:
        evaluate: errors of a list of settings. start: where to begin. rounds: through all parameters.
        on_better: told of each step that was taken.

    Returns:
        The best settings and their error.
    """
    best = start
    (error,) = evaluate([best])
    for _ in range(rounds):
        before = error
        for name in grid:
            tried = [config for _, config in neighbours(best, {name: grid[name]})]
            errors = list(evaluate(tried))
            least = int(np.argmin(errors))
            if errors[least] < (1 - MIN_GAIN) * error:
                best, error = tried[least], errors[least]
                on_better(name, best, error)
        if error == before:
            break
    return best, error
