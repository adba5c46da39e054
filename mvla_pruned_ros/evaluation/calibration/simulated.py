"""Recorded calls of an unpruned policy that drives the simulated robot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...policy.base import Policy
from ...policy.engine.stage_timer import StageTimer
from ...policy.runtime import PolicyRuntime
from ...pruning.baselines.simple import NoPruning
from ...pruning.types import Selection
from ..success.rollout import run_episode


@dataclass(frozen=True)
class SimulatedEpisode:
    """A task from a seed. The policy is deterministic, so every process records the same."""

    group: str
    seed: int

    def show(self, policy: Policy) -> tuple[str, Sequence[Any]]:
        """See ``RecordedEpisode``."""
        from ...sim.robot import robot_of

        tap = _Tap(policy)
        robot = robot_of(self.group, tap.config.image_size)
        run_episode(robot, PolicyRuntime(tap, NoPruning()), self.seed)
        return robot.task.instruction, tap.prepared


class _Tap:
    """A policy that keeps what it is given."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.prepared: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def act(self, prepared: Any, selection: Selection, instruction: str, timer: StageTimer) -> Any:
        self.prepared.append(prepared)
        return self._policy.act(prepared, selection, instruction, timer)
