"""Pools of processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.pool import Pool

# Before the children import torch and numpy: two processes of many threads each are slower than two of one.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def use_one_thread() -> None:
    """Keep torch of this process to one thread."""
    import torch  # not before the environment of a worker is set

    torch.set_num_threads(1)


def worker_pool(workers: int) -> Pool:
    """A pool of ``workers`` spawned processes."""
    saved = {k: os.environ.get(k) for k in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        return multiprocessing.get_context("spawn").Pool(workers, use_one_thread)
    finally:
        for k, v in saved.items():
            os.environ.pop(k, None) if v is None else os.environ.__setitem__(k, v)
