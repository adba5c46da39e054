"""How long the stages of one policy call take, measured the same way for diagnostics and benchmark."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class StageTimer:
    """Milliseconds of each stage of one policy call, by name, in order.

    On the CPU by the steady clock. On a GPU by events in the stream the policy runs on: a stage is the time the device
    (or, while it is idle, the host) spent between the two, so the stages add up to the call although nothing waits for
    them. Only reading ``ms`` waits, once, for the last event.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        """Args: device: where the policy runs; None for the CPU."""
        self._device = device if device is not None and device.type == "cuda" else None
        self._stages: list[tuple[str, Any, Any]] = []
        self._open: list[tuple[str, Any]] = []  # names of the stages that are running, and since when

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is inside; a name that comes again is added up. A stage inside a stage is not part of the outer."""
        now = self._mark()
        if self._open:
            self._stages.append((*self._open[-1], now))
        self._open.append((name, now))
        try:
            yield
        finally:
            now = self._mark()
            self._stages.append((*self._open.pop(), now))
            if self._open:
                self._open[-1] = (self._open[-1][0], now)

    @property
    def ms(self) -> dict[str, float]:
        """Milliseconds by stage. Read it when the call is over."""
        if self._device is not None and self._stages:
            self._stages[-1][2].synchronize()
        total: dict[str, float] = {}
        for name, start, end in self._stages:
            total[name] = total.get(name, 0.0) + self._between(start, end)
        return total

    def _mark(self) -> Any:
        if self._device is None:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _between(self, start: Any, end: Any) -> float:
        return (end - start) * 1e3 if self._device is None else start.elapsed_time(end)
