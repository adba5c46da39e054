"""Pools of processes of one thread each."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

# Before the children import torch and numpy: two processes of many threads each are slower than two of one.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


class WorkerDiedError(OSError):
    """A process of a pool was ended from outside; what was finished before is not lost."""


class WorkerPool:
    """Spawned processes. Use as a context manager. Ctrl-C is the parent's, which ends them; they end with it.

    ``multiprocessing.Pool`` waits for ever for a process that was killed; this one raises.
    """

    def __init__(self, workers: int) -> None:
        self._executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)

    def imap(self, function: Callable[[Any], Any], jobs: Iterable[Any], chunksize: int = 1) -> Iterator[Any]:
        """Results in the order of the jobs. chunksize: jobs that one process takes together."""
        rest = iter(jobs)
        chunks = iter(lambda: list(islice(rest, chunksize)), [])
        # Not the executor's own map, which cancels when it is interrupted what the executor then fails to end.
        for future in self._submitted(functools.partial(_each, function), chunks):
            with _deaths_named():
                results = future.result()
            yield from results

    def imap_unordered(self, function: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Any]:
        """Results as they come."""
        for future in as_completed(self._submitted(function, jobs)):
            with _deaths_named():
                result = future.result()
            yield result

    def _submitted(self, function: Callable[[Any], Any], jobs: Iterable[Any]) -> list[Future[Any]]:
        with _environment(), _deaths_named():
            return [self._executor.submit(function, job) for job in jobs]

    def end(self) -> None:
        """End the processes, whatever they are at."""
        for process in list((self._executor._processes or {}).values()):
            process.terminate()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


def _begin() -> None:
    """Make a process ready for work."""
    use_one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot end its processes, which would go through all jobs that are queued."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def use_one_thread() -> None:
    """Keep torch of this process to one thread."""
    import torch  # not before the environment of a worker is set

    torch.set_num_threads(1)


def _each(function: Callable[[Any], Any], jobs: list[Any]) -> list[Any]:
    return [function(job) for job in jobs]


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """What the processes inherit, which are started by the first jobs: the environment, and to be deaf to Ctrl-C."""
    saved = {k: os.environ.get(k) for k in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
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
