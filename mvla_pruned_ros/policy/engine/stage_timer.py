"""How long the stages of one policy call take, measured the same way for diagnostics and benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .accelerator import accelerator


class StageTimer:
    """Milliseconds of each stage of one policy call, by name, in order.

    On the CPU by the steady clock. On a GPU by events in the stream the policy runs on: a stage is the time the device
    (or, while it is idle, the host) spent between the two, so the stages add up to the call although nothing waits for
    them. Only reading ``ms`` waits for the last of them.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        """Args: device: where the policy runs; None for the CPU."""
        self._accelerator = accelerator(device or torch.device("cpu"))
        self._stages: list[tuple[str, Any, Any]] = []
        self._open: list[tuple[str, Any]] = []  # names of the stages that are running, and since when

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is inside; a name that comes again is added up. A stage inside a stage is not part of the outer."""
        now = self._accelerator.mark()
        if self._open:
            self._stages.append((*self._open[-1], now))
        self._open.append((name, now))
        try:
            yield
        finally:
            now = self._accelerator.mark()
            self._stages.append((*self._open.pop(), now))
            if self._open:
                self._open[-1] = (self._open[-1][0], now)

    @property
    def ms(self) -> dict[str, float]:
        """Milliseconds by stage. Read it when the call is over."""
        total: dict[str, float] = {}
        for name, start, end in self._stages:
            total[name] = total.get(name, 0.0) + self._accelerator.milliseconds(start, end)
        return total
