"""Recording of demonstration shards on several processes. A shard that is on disk is not made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..evaluation.rollout import DelayedControl
from ..evaluation.sweep import run_jobs
from ..policy.config import MVLAConfig
from .demonstrations import Demonstrations, record_episode
from .recipes import Shard

_robots: dict[str, Any] = {}


def _start() -> None:
    import torch

    torch.set_num_threads(1)


def _driver(policy: Any, seed: int) -> Callable[[Any, int], None]:
    """Steers by the policy, unpruned or randomly pruned by turns, so that the expert also shows how to get out of
    the states that pruning leads into."""
    from ..pruning.methods import make_pruner
    from ..runtime import PolicyRuntime

    method, keep = [("none", 1.0), ("random", 0.5), ("random", 0.25)][seed % 3]

    def drive(robot: Any, steps: int) -> None:
        control = DelayedControl(PolicyRuntime(policy, make_pruner(method, keep, seed=seed)))
        for _ in range(steps):
            if not robot.success:
                control.step(robot)

    return drive


def _record(job: tuple[Shard, MVLAConfig, Path, Path | None]) -> tuple[Shard, int, int]:
    from ..policy.mvla import MVLAPolicy
    from ..sim.robot import SimulatedRobot

    shard, config, path, policy_folder = job
    if shard.task not in _robots:
        _robots[shard.task] = SimulatedRobot(shard.task, config.image_size)
    policy = MVLAPolicy.load(policy_folder) if policy_folder is not None else None
    episodes = []
    for seed in range(shard.first_seed, shard.first_seed + shard.episodes):
        driver = _driver(policy, seed) if policy is not None else None
        episode = record_episode(_robots[shard.task], seed, config, noisy=seed % 2 == 1, driver=driver)
        if episode is not None:
            episodes.append(episode)
    if not episodes:
        raise RuntimeError(f"the expert solved none of the {shard.episodes} episodes of {shard.name}")
    data = Demonstrations.concatenate(episodes)
    data.save(path)
    return shard, len(episodes), len(data)


def collect(
    shards: list[Shard], config: MVLAConfig, folder: Path, policy: Path | None, workers: int,
    on_shard: Callable[[Shard, int, int], None],
) -> list[Path]:  # fmt: skip
    """Record what is missing.

    Args:
        shards: wanted. config: gives image size, groups and chunk. folder: where the files lie.
        policy: folder of the policy that drives in takeover shards. workers: processes.
        on_shard: called with shard, solved episodes and frames, after each that was recorded.

    Returns:
        The files, in the order of the shards.
    """
    paths = [folder / f"{shard.name}.npz" for shard in shards]
    jobs = [
        (shard, config, path, policy if shard.takeover else None)
        for shard, path in zip(shards, paths)
        if not path.is_file()
    ]
    for shard, episodes, frames in run_jobs(jobs, _record, _start, workers) if jobs else ():
        on_shard(shard, episodes, frames)
    return paths
