"""Errors of settings over recorded episodes, on several processes, each of which keeps what it was shown."""

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
from .descent import Grid, descend
from .recorded import RecordedEpisode, Recording, action_error, unpruned


@functools.cache
def _policy(folder: Path) -> Any:
    from ...policy.source import load_policy

    return load_policy(folder)


@functools.cache
def _recording(folder: Path, episode: RecordedEpisode) -> Recording:
    return unpruned(_policy(folder), episode)


def _calls(job: tuple[Path, RecordedEpisode]) -> tuple[np.ndarray, SalienceSchedule]:
    recording = _recording(*job)
    layouts = [prepared.layout for prepared in recording.prepared]
    return recording.actions, SalienceSchedule.of_calls(zip(layouts, recording.attention))


def _error(job: tuple[Path, RecordedEpisode, str, float, Any, np.ndarray]) -> float:
    folder, episode, method, keep, setting, scale = job
    scheduled = method == SchedulePruner.name
    make = SchedulePruner if scheduled else functools.partial(make_pruner, method)
    pruner = make(keep, setting, episode.seed)
    return action_error(_policy(folder), _recording(folder, episode), pruner, scale)


class CalibrationSweep(AbstractContextManager["CalibrationSweep"]):
    """Errors of settings over all groups of episodes and keep ratios; use it as a context manager.

    Attributes:
        on_setting: called whenever one setting has been judged.
        schedule: mean salience of the recordings, by kind of token; there after ``record``.
    """

    schedule: SalienceSchedule

    def __init__(
        self, policy: Path, episodes: Sequence[RecordedEpisode], keep_ratios: Sequence[float], workers: int,
        on_setting: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._policy, self._episodes, self._keep = policy, list(episodes), list(keep_ratios)
        self._groups = list(dict.fromkeys(episode.group for episode in episodes))
        self._group = np.array([self._groups.index(episode.group) for episode in episodes])
        self._chunk = -(-len(self._episodes) // len(self._groups))
        self.on_setting = on_setting
        self._pool = WorkerPool(workers)

    def __exit__(self, *_: object) -> None:
        self._pool.end()

    def record(self) -> None:
        """Let the unpruned policy answer; fixes the scale of actions and the error of random pruning.

        Raises:
            ValueError: random pruning moves no action.
        """
        jobs = [(self._policy, episode) for episode in self._episodes]
        calls = list(self._pool.imap(_calls, jobs, chunksize=self._chunk))
        flat = np.concatenate([actions.reshape(-1, actions.shape[-1]) for actions, _ in calls])
        self._scale = flat.std(0) + 1e-6
        # Every episode weighs alike, however long it took.
        self.schedule = SalienceSchedule(np.mean([schedule.salience for _, schedule in calls], 0))
        [self._random] = self._errors("random", [None])
        for group, errors in zip(self._groups, self._random):
            if not (errors > 0).all():
                raise ValueError(f"{group}: dropping tokens at random moves no action, so there is nothing to fit")

    def relative_errors(self, method: str, setting: TriStageConfig | SalienceSchedule | None) -> dict[str, float]:
        """``group@keep`` -> action error over that of random pruning there.

        Args:
            method: one of ``METHODS``, or ``schedule``. setting: of tri_stage, or the schedule.
        """
        [errors] = self._errors(method, [setting])
        relative = errors / self._random
        return {
            f"{group}@{keep:g}": round(float(relative[i, j]), 4)
            for i, group in enumerate(self._groups)
            for j, keep in enumerate(self._keep)
        }

    def fit(
        self, start: TriStageConfig, rounds: int, on_better: Callable[[str, TriStageConfig, float], None], grid: Grid,
        min_gain: float,
    ) -> TriStageConfig:  # fmt: skip
        """The settings found; see ``descent.descend``. Groups and keep ratios weigh alike."""

        def evaluate(configs: list[TriStageConfig]) -> Iterator[float]:
            for errors in self._errors("tri_stage", configs):
                yield float((errors / self._random).mean())

        return descend(evaluate, start, rounds, on_better, grid, min_gain)[0]

    def _errors(self, method: str, settings: Sequence[Any]) -> Iterator[np.ndarray]:
        """(groups, keep ratios) mean action error of each setting."""
        jobs = [
            (self._policy, episode, method, keep, setting, self._scale)
            for setting in settings
            for keep in self._keep
            for episode in self._episodes
        ]
        values = self._pool.imap(_error, jobs, chunksize=self._chunk)
        for _ in settings:
            shaped = np.array([[next(values) for _ in self._episodes] for _ in self._keep])
            yield np.stack([shaped[:, self._group == i].mean(1) for i in range(len(self._groups))])
            self.on_setting()
