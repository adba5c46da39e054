"""Pools of processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.pool import Pool
from typing import Any

# Before the children import torch and numpy: two processes of many threads each are slower than two of one.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def worker_pool(workers: int, start: Callable[..., None], arguments: tuple[Any, ...] = ()) -> Pool:
    """A pool of ``workers`` spawned processes, each of which has run ``start(*arguments)``."""
    saved = {k: os.environ.get(k) for k in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        return multiprocessing.get_context("spawn").Pool(workers, start, arguments)
    finally:
        for k, v in saved.items():
            os.environ.pop(k, None) if v is None else os.environ.__setitem__(k, v)
