"""Types of arguments, and arguments that several subcommands share. Light imports only: help must come at once.

A value is refused when the command line is read, before any work, and by argparse, which names the argument.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..configuration.reader import check_names
from ..evaluation.success.lateness import Latency
from ..models import policy_folder
from ..pruning.methods import EVALUATED, METHODS, check_method
from ..sim.libero.tasks import SUITES
from ..sim.metaworld.tasks import DEMO_TASKS, TASKS
from ..sim.tasks import expand_tasks, task_named

LONGEST_NAME = 200  # bytes; file systems take 255, and some names get an ending
MOST = 1_000_000  # of what is counted
TASK_NAMES = f"{', '.join(TASKS)}; of LIBERO SUITE/0 to SUITE/9, or SUITE for all ten: {', '.join(SUITES)}"

Value = TypeVar("Value")


def argument(read: Callable[[str], Value]) -> Callable[[str], Value]:
    """A type for argparse, which shows the words of ``read``'s ValueError or OSError."""

    @functools.wraps(read)
    def convert(text: str) -> Value:
        try:
            return read(text)
        except (ValueError, OSError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


@argument
def output_file(text: str) -> Path:
    """A file that can be written, whether it is there or not."""
    path = Path(_given(text))
    if path.is_dir() or text.endswith(os.sep):
        raise ValueError(f"{text} is a folder: give a file")
    if path.exists() and not path.is_file():
        raise ValueError(f"{text} is no ordinary file: give another")
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f"{text} must not be written to: change its mode, or give another file")
    return _in_writable_folder(path, path.absolute().parent)


@argument
def output_folder(text: str) -> Path:
    """A folder that can be written to, whether it is there or not."""
    path = Path(_given(text))
    if path.exists() and not path.is_dir():
        raise ValueError(f"{text} is a file: give a folder")
    return _in_writable_folder(path, path.absolute())


@argument
def new_folder(text: str) -> Path:
    """A folder that is not there and can be made."""
    path = Path(_given(text))
    if path.exists():
        raise ValueError(f"{text} exists already: choose another folder or remove it")
    return _in_writable_folder(path, path.absolute().parent)


def _in_writable_folder(path: Path, folder: Path) -> Path:
    """The path; ``folder`` is where it will lie, and may have to be made."""
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise ValueError(f"{str(path)[:40]}... is too long a name: give one of at most {LONGEST_NAME} bytes")
    while not folder.exists():
        folder = folder.parent
    try:
        # Not by permissions: who is root may write everywhere, but not to /proc or what is mounted read-only. It has
        # no name on most file systems, and is gone at once on the others.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({folder}: {error.strerror}): choose another place") from None
    return path


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from ``low`` to ``high``."""

    @argument
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"must be a whole number, got {text!r}") from None
        if not low <= value <= high:
            raise ValueError(f"must be at {f'least {low}' if value < low else f'most {high}'}, got {value}")
        return value

    return read


def number(low: float, high: float, unit: str = "") -> Callable[[str], float]:
    """A number from ``low`` to ``high``."""

    @argument
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"must be a number in [{low:g}, {high:g}]{unit and f' {unit}'}, got {text!r}")
        return value

    return read


count, seed, domain = whole(1, MOST), whole(0, 2_000_000_000), whole(0, 101)
processes = whole(1, 4096)


@argument
def ratio(text: str) -> float:
    """A keep ratio."""
    from ..pruning.base import check_keep_ratio  # with numpy

    return check_keep_ratio(float(text))


@argument
def task(text: str) -> str:
    """Name of a task."""
    return task_named(text).name


@argument
def task_or_suite(text: str) -> str:
    """Name of a task, or of a suite for all of its tasks; see ``expand_tasks``."""
    expand_tasks([text])
    return text


@argument
def sensors(text: str) -> str:
    """What a simulated robot is seen through."""
    from ..sim.degradation import parts_named  # with scipy and the simulator

    parts_named(text)
    return text


@argument
def policy(text: str) -> str:
    """A policy folder, a shipped policy, or package.module:factory, which is imported when it is wanted."""
    if ":" not in text:
        policy_folder(text)
    return text


@argument
def view(text: str) -> str:
    """Where a view goes: a window, or a file that can be written."""
    from ..viewer.target import SPAWN, check_target  # with numpy

    if text != SPAWN:
        output_file(text)
    return check_target(text)


method = argument(check_method)


@argument
def evaluated_method(text: str) -> str:
    """A method, or the floor for evaluations."""
    check_names([text], EVALUATED, "method")
    return text


@argument
def latency(text: str) -> Latency:
    """What a policy call counts for in simulated time."""
    return Latency.of(text)


@argument
def _given(text: str) -> str:
    if not text:
        raise ValueError("is empty: give a name")
    return text


word = _given


def add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    """--keep, --method, --policy, --device."""
    parser.add_argument(
        "--keep",
        type=ratio,
        default=0.5,
        metavar="RATIO",
        help="share of the visual tokens (image and points) that stay, (0, 1] (default: %(default)s)",
    )
    parser.add_argument(
        "--method", type=method, default="tri_stage", help=f"pruning rule: {', '.join(METHODS)} (default: %(default)s)"
    )
    parser.add_argument(
        "--policy",
        type=policy,
        metavar="DIR",
        help="policy folder, or package.module:factory, code that makes one (default: the shipped `small`)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="where the policy runs: cpu, cuda, cuda:N, or auto (default: cuda if there is one)",
    )


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    """What sets the simulated robot up: --tasks, --seed, --real-time-factor, --domain-id, --max-steps."""
    parser.add_argument(
        "--tasks",
        type=task_or_suite,
        nargs="+",
        metavar="TASK",
        help=f"tasks in this order (default: {' '.join(DEMO_TASKS)}, or what --policy learned; of: {TASK_NAMES})",
    )
    parser.add_argument(
        "--seed", type=seed, default=0, help="seed of the first episode of each task, then + 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--real-time-factor",
        type=number(0, 100),
        metavar="X",
        help="simulated over wall time, 0 for as fast as possible (default: fits two CPU cores)",
    )
    parser.add_argument(
        "--max-steps",
        type=whole(0, MOST),
        default=0,
        metavar="N",
        help="end episodes after N steps of 12.5 ms, with LIBERO 50 ms (default: the task's)",
    )
    parser.add_argument(
        "--domain-id", type=domain, metavar="N", help="ROS_DOMAIN_ID of the nodes (default: one of this run's own)"
    )


def add_set_argument(parser: argparse.ArgumentParser) -> None:
    """--set."""
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="tri_stage parameters that differ from the policy's own (its pruning.json, or the defaults)",
    )


def add_view_argument(parser: argparse.ArgumentParser) -> None:
    """--view."""
    parser.add_argument(
        "--view",
        type=view,
        metavar="TARGET",
        help="show what the policy sees and decides in Rerun: spawn opens a window, FILE.rrd writes a file for one "
        "(needs the extra view)",
    )


def add_out_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """--out, a folder."""
    parser.add_argument("--out", type=output_folder, default=default, metavar="DIR", help="default: %(default)s")
