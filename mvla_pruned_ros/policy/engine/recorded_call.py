"""Functions of tensors that are recorded once per shape and then replayed; on a GPU as CUDA graphs.

A policy call is hundreds of small kernels; launched one by one from Python they take longer to launch than to run. A
graph launches them all at once, but needs the same addresses and shapes at each replay.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from .accelerator import Accelerator, Work

Shapes: TypeAlias = tuple[tuple[tuple[int, ...], torch.dtype], ...]


@dataclass(frozen=True)
class _Recording:
    inputs: tuple[Tensor, ...]
    replay: Work


@dataclass
class RecordedCall:
    """``function`` through one set of buffers per combination of ``fixed`` and input shapes.

    On the CPU the function runs on the buffers each time, which gives what a plain call gives and tests the plumbing.

    Attributes:
        function: of ``fixed`` and tensors, gives tensors, all on one device, without reading a value back to the host.
        accelerator: records and replays.
        late: combinations that were first met after ``seal``, in that order: each was a slow call.
    """

    function: Callable[..., tuple[Tensor, ...]]
    accelerator: Accelerator
    late: list[tuple[Hashable, Shapes]] = field(default_factory=list)
    _recordings: dict[tuple[Hashable, Shapes], _Recording] = field(default_factory=dict)
    _sealed: bool = False

    @property
    def recorded(self) -> list[tuple[Hashable, Shapes]]:
        """Combinations that are ready, in the order they came."""
        return list(self._recordings)

    def seal(self) -> None:
        """Warm-up is over: what is recorded from here on is reported in ``late``."""
        self._sealed = True

    def __call__(self, fixed: Hashable, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs for inputs; the tensors returned are overwritten by the next call with the same combination."""
        key = fixed, tuple((tuple(t.shape), t.dtype) for t in inputs)
        recording = self._recordings.get(key)
        if recording is not None:
            with torch.no_grad():
                for buffer, value in zip(recording.inputs, inputs):
                    buffer.copy_(value)
                return recording.replay()
        if self._sealed:
            self.late.append(key)
        with torch.inference_mode(False):  # or later calls outside of inference mode could not write to them
            buffers = tuple(torch.empty_like(t) for t in inputs)
        with torch.no_grad():
            for buffer, value in zip(buffers, inputs):
                buffer.copy_(value)
            # One that fails, out of memory, say, leaves nothing behind: the next call of this shape tries again.
            replay, outputs = self.accelerator.record(lambda: self.function(fixed, *buffers))
        self._recordings[key] = _Recording(buffers, replay)
        return outputs
