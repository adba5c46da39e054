"""Pools of processes of one thread each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

# Before the children import torch and numpy: two processes of many threads each are slower than two of one.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


class WorkerDiedError(OSError):
    """A process of a pool was ended from outside; what was finished before is not lost."""


class WorkerPool:
    """Spawned processes. Use as a context manager.

    ``multiprocessing.Pool`` waits for ever for a process that was killed; this one raises.
    """

    def __init__(self, workers: int) -> None:
        self._executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start)

    def imap(self, function: Callable[[Any], Any], jobs: Iterable[Any], chunksize: int = 1) -> Iterator[Any]:
        """Results in the order of the jobs. chunksize: jobs that one process takes together."""
        with _environment(), _deaths_named():
            results = self._executor.map(function, jobs, chunksize=chunksize)
        with _deaths_named():
            yield from results

    def imap_unordered(self, function: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Any]:
        """Results as they come."""
        with _environment(), _deaths_named():
            futures = [self._executor.submit(function, job) for job in jobs]
        with _deaths_named():
            for future in as_completed(futures):
                yield future.result()

    def end(self) -> None:
        """End the processes, whatever they are at."""
        for process in list((self._executor._processes or {}).values()):
            process.terminate()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


def use_one_thread() -> None:
    """Keep torch of this process to one thread."""
    import torch  # not before the environment of a worker is set

    torch.set_num_threads(1)


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its workers
    use_one_thread()


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """The environment of the processes, which are started by the first jobs."""
    saved = {k: os.environ.get(k) for k in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for k, v in saved.items():
            os.environ.pop(k, None) if v is None else os.environ.__setitem__(k, v)


@contextlib.contextmanager
def _deaths_named() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise WorkerDiedError(
            "a worker process was killed, as happens when memory runs out: what was finished is kept, run the same "
            "command again to go on, with fewer --workers"
        ) from None
