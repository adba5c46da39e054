"""Functions of tensors run through buffers that stay in place; on a GPU recorded once per shape as a CUDA graph.

A policy call is hundreds of small kernels; launched one by one from Python they take longer to launch than to run. A
graph launches them all at once, but needs the same addresses and shapes at each replay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

Shapes: TypeAlias = tuple[tuple[tuple[int, ...], torch.dtype, torch.device], ...]

WARM_UP_RUNS = 3  # before a capture: libraries choose kernels and take workspaces in their first runs


def shapes_of(tensors: Sequence[Tensor]) -> Shapes:
    """What decides whether a recording fits."""
    return tuple((tuple(t.shape), t.dtype, t.device) for t in tensors)


@dataclass
class _Recording:
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...] = ()
    graph: torch.cuda.CUDAGraph | None = None


@dataclass
class StaticCall:
    """``function`` through one set of buffers per combination of input shapes.

    On the CPU the function runs on the buffers each time, which gives what a plain call gives and tests the plumbing.

    Attributes:
        function: tensors in, tensors out, all on one device, without reading a value back to the host.
        late: combinations that were first met after ``seal``, in that order: each was a slow call.
    """

    function: Callable[..., tuple[Tensor, ...]]
    late: list[Shapes] = field(default_factory=list)
    _recordings: dict[Shapes, _Recording] = field(default_factory=dict)
    _sealed: bool = False
    _pool: Any = None

    @property
    def recorded(self) -> list[Shapes]:
        """Combinations of input shapes that are ready, in the order they came."""
        return list(self._recordings)

    def seal(self) -> None:
        """Warm-up is over: what is recorded from here on is reported in ``late``."""
        self._sealed = True

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs for inputs; the tensors returned are overwritten by the next call with the same shapes."""
        key = shapes_of(inputs)
        recording = self._recordings.get(key)
        new = recording is None
        if recording is None:
            if self._sealed:
                self.late.append(key)
            with torch.inference_mode(False):  # or later calls outside of inference mode could not write to them
                recording = self._recordings[key] = _Recording(tuple(torch.empty_like(t) for t in inputs))
        with torch.no_grad():
            for buffer, value in zip(recording.inputs, inputs):
                buffer.copy_(value)
            if new and inputs[0].is_cuda:
                try:
                    self._capture(recording)
                except BaseException:  # out of memory, say: the next call of this shape tries again
                    del self._recordings[key]
                    raise
            if recording.graph is not None:
                recording.graph.replay()
            else:
                recording.outputs = self.function(*recording.inputs)
        return recording.outputs

    def _capture(self, recording: _Recording) -> None:
        # As torch's notes on CUDA graphs ask: warm up on a side stream, then capture into a private memory pool, which
        # all recordings share because no two of them run at once.
        device = recording.inputs[0].device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_RUNS):
                self.function(*recording.inputs)
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), torch.cuda.graph(graph, pool=self._pool):
            recording.outputs = self.function(*recording.inputs)
        self._pool = graph.pool()
        recording.graph = graph
