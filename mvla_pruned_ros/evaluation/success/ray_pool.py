"""A pool of processes on the machines of a Ray cluster, for sweeps that one machine is too slow for."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .workers import use_one_thread

CONNECT_S = 10.0  # for a machine that does not answer


@contextmanager
def ray_pool(address: str, workers: int) -> Iterator[Any]:
    """Ray's own stand-in for ``multiprocessing.Pool``.

    Every machine needs this package, the simulator, and the policy folder at the same path.

    Args:
        address: of a running cluster as ``ray.init`` takes it, or ``local`` for one that is started here and ended.
        workers: processes of one thread each.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a robot's software does not report home
    try:
        ray, pools = importlib.import_module("ray"), importlib.import_module("ray.util.multiprocessing")
    except ModuleNotFoundError as error:
        raise ValueError(f"--ray needs Ray ({error}): pip install mvla_pruned_ros[ray]") from None
    try:
        try:
            _reach(address)
            started = pools.Pool(processes=workers, initializer=use_one_thread, ray_address=address)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"no Ray cluster at {address!r} ({error}): start one with `ray start --head`") from error
        with started as pool:
            yield pool
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Whether anything listens at host:port, which Ray itself would try to find out for minutes.

    Raises:
        ValueError: no address. OSError: nothing listens there.
    """
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal() and int(port) < 2**16):
        raise ValueError(f"{address!r} is no address of a Ray cluster: give host:port, auto or local")
    socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
