"""Calibration over tasks on several processes, each of which records its tasks and keeps what it recorded."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from ...pruning.baselines.schedule import SalienceSchedule, SchedulePruner
from ...pruning.methods import make_pruner
from ...pruning.tri_stage.config import TriStageConfig
from ..success.workers import WorkerPool
from .descent import Recording, action_error, descend, record_unpruned


@functools.cache
def _policy(folder: Path) -> Any:
    from ...policy.source import load_policy

    return load_policy(folder)


@functools.cache
def _recording(folder: Path, task: str, seed: int) -> Recording:
    """Recorded when first asked for: the policy is deterministic, so every process records the same."""
    from ...sim.robot import robot_of

    policy = _policy(folder)
    return record_unpruned(robot_of(task, policy.config.image_size), policy, seed)


def _calls(job: tuple[Path, str, int]) -> tuple[np.ndarray, SalienceSchedule]:
    recording = _recording(*job)
    layouts = [prepared.layout for prepared in recording.prepared]
    return recording.actions, SalienceSchedule.of_calls(zip(layouts, recording.attention))


def _error(job: tuple[Path, str, int, str, float, Any, np.ndarray]) -> float:
    folder, task, seed, method, keep, setting, scale = job
    scheduled = method == SchedulePruner.name
    pruner = SchedulePruner(keep, setting, seed) if scheduled else make_pruner(method, keep, setting, seed)
    return action_error(_policy(folder), _recording(folder, task, seed), pruner, scale)


class CalibrationSweep(AbstractContextManager["CalibrationSweep"]):
    """Errors of settings over all tasks, episodes and keep ratios; use it as a context manager."""

    def __init__(
        self, policy: Path, tasks: Sequence[str], first_seed: int, episodes: int, keep_ratios: tuple[float, ...],
        workers: int,
    ) -> None:  # fmt: skip
        self._jobs = [(policy, task, seed) for task in tasks for seed in range(first_seed, first_seed + episodes)]
        self._tasks, self._episodes, self._keep = list(tasks), episodes, keep_ratios
        self._pool = WorkerPool(workers)

    def __exit__(self, *_: object) -> None:
        self._pool.end()

    def record(self) -> None:
        """Let the unpruned policy drive; fixes the scale of actions and the error of random pruning."""
        calls = list(self._pool.imap(_calls, self._jobs, chunksize=self._episodes))
        flat = np.concatenate([actions.reshape(-1, actions.shape[-1]) for actions, _ in calls])
        self._scale = flat.std(0) + 1e-6
        # Every episode weighs alike, however long it took.
        self.schedule = SalienceSchedule(np.mean([schedule.salience for _, schedule in calls], 0))
        self._random = self._errors("random", [None])[0]

    def relative_errors(self, method: str, setting: TriStageConfig | SalienceSchedule | None) -> dict[str, float]:
        """``task@keep`` -> action error over that of random pruning there.

        Args:
            method: one of ``METHODS``, or ``schedule``. setting: of tri_stage, or the schedule.
        """
        relative = self._errors(method, [setting])[0] / self._random
        return {
            f"{task}@{keep:g}": round(float(relative[i, j]), 4)
            for i, task in enumerate(self._tasks)
            for j, keep in enumerate(self._keep)
        }

    def fit(
        self, start: TriStageConfig, rounds: int, on_better: Callable[[str, TriStageConfig, float], None]
    ) -> tuple[TriStageConfig, float]:
        """See ``calibration.descend``; tasks and keep ratios weigh alike."""

        def evaluate(configs: list[TriStageConfig]) -> Iterator[float]:
            for errors in self._errors("tri_stage", configs):
                yield float((errors / self._random).mean())

        return descend(evaluate, start, rounds, on_better)

    def _errors(self, method: str, configs: Sequence[Any]) -> list[np.ndarray]:
        """(tasks, keep ratios) mean action error of each setting."""
        jobs = [
            (*job, method, keep, config, self._scale) for config in configs for keep in self._keep for job in self._jobs
        ]
        values = np.array(list(self._pool.imap(_error, jobs, chunksize=self._episodes)))
        shaped = values.reshape(len(configs), len(self._keep), len(self._tasks), self._episodes)
        return [block.mean(-1).T for block in shaped]
