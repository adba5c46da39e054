"""Which of several training processes this one is, when ``torchrun`` started it; alone otherwise."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

LONGEST_WAIT = timedelta(hours=6)  # for the one that records demonstrations


@dataclass(frozen=True)
class Ranks:
    """rank of world processes; local: its number on this machine. gpu: number of its GPU."""

    rank: int = 0
    world: int = 1
    local: int = 0
    gpu: int = 0

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """What ``torchrun`` says in the environment; meets the other processes.

        Args:
            device: cpu or cuda. A GPU that is named is the one of a process alone; several take one each, in order.
        """
        ranks = cls(*(int(os.environ.get(name, value)) for name, value in
                      (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))))  # fmt: skip
        ranks = replace(ranks, gpu=ranks.local if ranks.world > 1 else device.index or 0)
        if ranks.world > 1 and not dist.is_initialized():
            if device.type == "cuda":
                torch.cuda.set_device(ranks.gpu)
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
        return ranks

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()

    def mean(self, value: Tensor) -> Tensor:
        """Over all processes; every one has to ask."""
        if self.world > 1:
            dist.all_reduce(value)
        return value / self.world

    def leave(self) -> None:
        """At the end."""
        if self.world > 1:
            dist.destroy_process_group()


ALONE = Ranks()
