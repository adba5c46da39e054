"""All that the host has to do with the device beside launching work there: copies, times, recorded work.

One seam, so that a test can put a recorder in its place and count what a call does on a device that is not there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

Work: TypeAlias = Callable[[], tuple[Tensor, ...]]

WARM_UP_RUNS = 3  # before a capture: libraries choose kernels and take workspaces in their first runs


class Accelerator:
    """The CPU: nothing is copied, clocks are read at once, and recorded work is run again."""

    @property
    def name(self) -> str:
        """For people to read."""
        return "cpu"

    def upload(self, x: Tensor) -> Tensor:
        """A tensor of the host on the device, without waiting for what runs there."""
        return x

    def download(self, x: Tensor) -> np.ndarray:
        """A tensor of the device on the host: here the host waits for what runs there."""
        return x.numpy()

    def mark(self) -> Any:
        """A moment in the device's order of work, for ``milliseconds``."""
        return time.perf_counter()

    def milliseconds(self, start: Any, end: Any) -> float:
        """Between two moments. Waits for the later one."""
        return (end - start) * 1e3

    def record(self, work: Work) -> tuple[Work, tuple[Tensor, ...]]:
        """What does the work again, on the same buffers, and what it gave this time."""
        return work, work()

    def allocated_mib(self) -> float:
        """Memory of the device that tensors take; 0 where that is the host's."""
        return 0.0


class Cuda(Accelerator):
    """A GPU of Nvidia."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name(self._device)

    def upload(self, x: Tensor) -> Tensor:
        return x.pin_memory().to(self._device, non_blocking=True)

    def download(self, x: Tensor) -> np.ndarray:
        return x.cpu().numpy()

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def milliseconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        end.synchronize()
        return start.elapsed_time(end)

    def record(self, work: Work) -> tuple[Work, tuple[Tensor, ...]]:
        """As a CUDA graph. As torch's notes on them ask: warmed up on a side stream, then captured into a private
        memory pool, which all recordings share because no two of them run at once."""
        device = self._device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_RUNS):
                work()
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), torch.cuda.graph(graph, pool=self._pool):
            outputs = work()
        self._pool = graph.pool()

        def replay() -> tuple[Tensor, ...]:
            graph.replay()
            return outputs

        return replay, replay()

    def allocated_mib(self) -> float:
        return torch.cuda.memory_allocated(self._device) / 2**20


_KINDS: dict[str, Callable[[torch.device], Accelerator]] = {"cpu": lambda _: Accelerator(), "cuda": Cuda}


@cache
def accelerator(device: torch.device) -> Accelerator:
    """The seam to a device, one for all who ask."""
    return _KINDS[device.type](device)
