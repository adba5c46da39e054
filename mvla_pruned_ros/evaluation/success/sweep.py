"""Many episodes on several processes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...policy.fingerprint import policy_fingerprint
from ...pruning.tri_stage.config import TriStageConfig
from ...sim.tasks import task_named
from .episode_log import EpisodeLog
from .lateness import Latency
from .ray_pool import ray_pool
from .rollout import NO_LATENCY, Episode
from .workers import WorkerPool


@dataclass(frozen=True)
class Setting:
    """What an episode is run with, its seed apart.

    Attributes:
        task: name. policy: folder. fingerprint: of that policy, see ``policy_fingerprint``.
        method, keep: pruning. pruning: of tri_stage. latency: of policy calls.
        swap: give the task the instruction of its partner. device: where the policy runs.
        replan: steps from one observation to the next; None for the robot's own.
        sensors: what the robot is seen through, see ``sim.degradation``; empty for perfect ones.
        match_steady: what ``keep`` was chosen for, see ``match``; None where it was given. It decides nothing else.
    """

    task: str
    policy: str
    fingerprint: str
    method: str
    keep: float
    pruning: TriStageConfig = field(default_factory=TriStageConfig)
    latency: Latency = NO_LATENCY
    swap: bool = False
    device: str = "cpu"
    replan: int | None = None
    sensors: str = ""
    match_steady: float | None = None

    @property
    def tri_stage(self) -> dict[str, Any] | None:
        """All parameters of the pruner, None for methods that have none."""
        return dataclasses.asdict(self.pruning) if self.method == "tri_stage" else None

    def identity(self) -> dict[str, Any]:
        """All that decides the outcome of a seed, for JSON. Where the policy lies does not."""
        return {
            "policy": self.fingerprint,
            "task": self.task,
            "method": self.method,
            "keep": self.keep,
            "tri_stage": self.tri_stage,
            "delay": self.latency.steps,
            "swap": self.swap,
            # Logs of older versions name none of these.
            **({} if self.device == "cpu" else {"device": self.device}),
            **({} if self.latency.word is None else {"latency": self.latency.word}),
            **({} if self.replan is None else {"replan": self.replan}),
            **({"sensors": self.sensors} if self.sensors else {}),
        }


@functools.cache
def _policy(folder: str, device: str, fingerprint: str) -> Any:
    """The one policy of this process in a folder. (Robots are kept by ``robot_of``.)"""
    from ...policy.source import load_policy

    policy = load_policy(folder, device)
    if policy_fingerprint(folder) != fingerprint:
        raise ValueError(f"{folder} is another policy than when the sweep began: start it again")
    return policy


@functools.cache
def _warm(folder: str, device: str, fingerprint: str, method: str, keep: float, pruning: TriStageConfig) -> None:
    """Make calls that nobody times: the first ones of a process and of a shape take longer than all later ones."""
    from ...policy.runtime import PolicyRuntime
    from ...pruning.methods import make_pruner

    policy = _policy(folder, device, fingerprint)
    PolicyRuntime(policy, make_pruner(method, keep, pruning)).warm_up(policy.example())


def _run(job: tuple[Setting, int, Sequence[float]]) -> tuple[Setting, Episode]:
    # Imported here: the parent needs no simulator, and environment variables are set by then.
    from ...policy.runtime import PolicyRuntime
    from ...pruning.methods import make_pruner
    from ...sim.robot import robot_of
    from .rollout import run_episode

    setting, seed, played = job
    policy = _policy(setting.policy, setting.device, setting.fingerprint)
    # The pruner's own draws follow the episode: the same episode gives the same result in any order of work.
    pruner = make_pruner(setting.method, setting.keep, setting.pruning, seed)
    task = task_named(setting.task)
    instruction = task_named(task.partner).instruction if setting.swap and task.partner else None
    robot = robot_of(setting.task, policy.config.image_size)
    if setting.latency.factor:
        _warm(setting.policy, setting.device, setting.fingerprint, setting.method, setting.keep, setting.pruning)
    return setting, run_episode(
        robot, PolicyRuntime(policy, pruner), seed, latency=setting.latency, played=played, instruction=instruction,
        replan=setting.replan, sensors=setting.sensors,
    )  # fmt: skip


def run_sweep(
    settings: list[Setting],
    seeds: Sequence[int],
    workers: int,
    on_episode: Callable[[Setting, Episode], None],
    log: EpisodeLog | None = None,
    ray: str | None = None,
) -> dict[Setting, list[Episode]]:
    """Every setting on every seed.

    Args:
        settings: rows to be. seeds: the same for every setting, so that rows are paired. workers: processes.
        on_episode: called after each episode, for a progress bar.
        log: episodes in it are not run again; every finished one is written to it at once.
        ray: run on the Ray cluster at this address, see ``ray_pool``; None: on this machine.

    Returns:
        Episodes of each setting in the order of the seeds.
    """
    for setting in settings:
        task = task_named(setting.task)
        if setting.swap and task.partner is None:
            raise ValueError(f"task {task.name!r} has no partner whose instruction it could be given")
    # Read before anything is run, and here: the machines of a cluster need not have the file.
    played = {path: EpisodeLog(path) for path in {s.latency.log for s in settings if s.latency.file}}
    done: dict[tuple[Setting, int], Episode] = {}

    def finished(setting: Setting, episode: Episode) -> None:
        done[setting, episode.seed] = episode
        on_episode(setting, episode)

    jobs = []
    for setting in settings:
        for seed in seeds:
            known = log.find(setting.identity(), seed) if log else None
            if known is None:
                of = played.get(setting.latency.log)
                jobs.append((setting, seed, of.latencies(setting.identity(), seed) if of else ()))
            else:
                finished(setting, known)
    if jobs:
        workers = min(workers, len(jobs))
        with ray_pool(ray, workers) if ray else WorkerPool(workers) as pool:
            # Unordered: an episode is on disk when it is over, not when those before it are.
            for setting, episode in pool.imap_unordered(_run, jobs):
                if log:
                    log.add(setting.identity(), episode)
                finished(setting, episode)
    return {setting: [done[setting, seed] for seed in seeds] for setting in settings}
