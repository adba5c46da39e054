"""Recording of demonstration shards on several processes. A shard that is on disk is not made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ..evaluation.success.workers import WorkerPool
from ..policy.mvla.config import MVLAConfig
from .demonstrations import Demonstrations
from .recipes import Shard


def _record(job: tuple[Shard, MVLAConfig, Path]) -> tuple[Shard, int, int]:
    from ..sim.robot import robot_of
    from .expert import record_beginnings, record_episode

    shard, config, path = job
    robot, seeds = robot_of(shard.task, config.image_size), range(shard.first_seed, shard.first_seed + shard.episodes)
    if shard.beginnings:
        recorded: Iterable[Demonstrations | None] = (
            record_beginnings(robot, seed, config, shard.beginnings) for seed in seeds
        )
    else:
        recorded = (record_episode(robot, seed, config, noisy=seed % 2 == 1, sensors=shard.sensors) for seed in seeds)
    episodes = [episode for episode in recorded if episode is not None]
    if not episodes:
        raise RuntimeError(f"the expert solved none of the {shard.episodes} episodes of {shard.name}")
    data = Demonstrations.concatenate(episodes)
    data.save(path)
    return shard, len(episodes), len(data)


def collect(
    shards: tuple[Shard, ...],
    config: MVLAConfig,
    folder: Path,
    workers: int,
    on_shard: Callable[[Shard, int, int], None],
) -> list[Path]:
    """Record what is missing.

    Args:
        shards: wanted. config: gives image size, groups and chunk. folder: where the files lie. workers: processes.
        on_shard: called with shard, solved episodes and frames, after each that was recorded.

    Returns:
        The files, in the order of the shards.
    """
    paths = [folder / f"{shard.name}.npz" for shard in shards]
    jobs = [(shard, config, path) for shard, path in zip(shards, paths) if not path.is_file()]
    if jobs:
        with WorkerPool(workers) as pool:
            for shard, episodes, frames in pool.imap(_record, jobs):
                on_shard(shard, episodes, frames)
    return paths
