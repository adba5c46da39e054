"""Many episodes on several processes, summed up as one row per task and setting."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..pruning.config import TriStageConfig
from ..sim.tasks import TASKS, task_named
from .rollout import Episode
from .statistics import wilson_interval


@dataclass(frozen=True)
class Setting:
    """One row of a table.

    Attributes:
        task: name. policy: folder. method, keep: pruning. pruning: of tri_stage. delay: steps.
        swap: give the task the instruction of its partner.
    """

    task: str
    policy: str
    method: str
    keep: float
    pruning: TriStageConfig = field(default_factory=TriStageConfig)
    delay: int = 0
    swap: bool = False


class _Worker:
    """What a process keeps between episodes: one robot per task, one runtime per policy and pruning."""

    def __init__(self) -> None:
        self.robots: dict[str, Any] = {}
        self.policies: dict[str, Any] = {}

    def run(self, job: tuple[Setting, int]) -> tuple[Setting, Episode]:
        # Imported here: the parent needs no simulator, and environment variables are set by then.
        from ..policy.mvla import MVLAPolicy
        from ..pruning.methods import make_pruner
        from ..runtime import PolicyRuntime
        from ..sim.robot import SimulatedRobot
        from .rollout import run_episode

        setting, seed = job
        if setting.task not in self.robots:
            self.robots[setting.task] = SimulatedRobot(setting.task)
        if setting.policy not in self.policies:
            self.policies[setting.policy] = MVLAPolicy.load(setting.policy)
        # The pruner's own draws follow the episode: the same episode gives the same result in any order of work.
        pruner = make_pruner(setting.method, setting.keep, setting.pruning, seed)
        task = task_named(setting.task)
        instruction = TASKS[task.partner].instruction if setting.swap and task.partner else None
        runtime = PolicyRuntime(self.policies[setting.policy], pruner)
        episode = run_episode(self.robots[setting.task], runtime, seed, delay=setting.delay, instruction=instruction)
        return setting, episode


_worker: _Worker | None = None


def _start_worker() -> None:
    global _worker
    import torch

    torch.set_num_threads(1)
    _worker = _Worker()


def _run_in_worker(job: tuple[Setting, int]) -> tuple[Setting, Episode]:
    assert _worker is not None
    return _worker.run(job)


def run_jobs(jobs: Iterable[Any], function: Callable[[Any], Any], start: Callable[[], None], workers: int) -> Iterator:
    """Results of ``function`` over jobs, in order, on ``workers`` spawned processes of one thread each."""
    # Before the children import torch and numpy.
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    saved = {k: os.environ.get(k) for k in environment}
    os.environ.update(environment)
    try:
        with multiprocessing.get_context("spawn").Pool(workers, start) as pool:
            yield from pool.imap(function, jobs)
    finally:
        for k, v in saved.items():
            os.environ.pop(k, None) if v is None else os.environ.__setitem__(k, v)


def run_sweep(
    settings: list[Setting], seeds: range, workers: int, on_episode: Callable[[Setting, Episode], None]
) -> dict[Setting, list[Episode]]:
    """Every setting on every seed.

    Args:
        settings: rows to be. seeds: the same for every setting, so that rows are paired. workers: processes.
        on_episode: called after each episode, for a progress bar.

    Returns:
        Episodes of each setting in the order of the seeds.
    """
    for setting in settings:
        task = task_named(setting.task)
        if setting.swap and task.partner is None:
            raise ValueError(f"task {task.name!r} has no partner whose instruction it could be given")
        if not (Path(setting.policy) / "config.json").is_file():
            raise ValueError(f"no policy folder at {setting.policy}: give a folder with config.json")
    results: dict[Setting, list[Episode]] = {setting: [] for setting in settings}
    jobs = ((setting, seed) for setting in settings for seed in seeds)
    for setting, episode in run_jobs(jobs, _run_in_worker, _start_worker, workers):
        results[setting].append(episode)
        on_episode(setting, episode)
    return results


def row(setting: Setting, episodes: list[Episode]) -> dict[str, Any]:
    """One row of the result file: a table's line, with the 95 % Wilson interval of its success rate."""
    successes = sum(e.success for e in episodes)
    calls = [k for e in episodes for k in e.keep_ratios]
    times = [t for e in episodes for t in e.policy_ms]
    solved = [e.steps for e in episodes if e.success]
    result = {
        "task": setting.task,
        "method": setting.method,
        "keep_asked": setting.keep,
        "keep_measured": round(float(np.mean(calls)), 4) if calls else None,
        "episodes": len(episodes),
        "successes": successes,
        "interval": [round(x, 4) for x in wilson_interval(successes, len(episodes))],
        "steps_median": float(np.median(solved)) if solved else None,
        "policy_ms_p50": round(float(np.median(times)), 3) if times else None,
        "delay": setting.delay,
        "first_seed": episodes[0].seed,
        "success_by_seed": [int(e.success) for e in episodes],
    }
    if setting.swap:
        result["instruction_of"] = task_named(setting.task).partner
        result["partner_successes"] = sum(e.partner_success for e in episodes)
    return result
