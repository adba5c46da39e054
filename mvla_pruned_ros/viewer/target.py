"""Where a view goes: into a file, or to Rerun's viewer on this computer. Rerun is imported when one is opened."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..control.action_spaces import ActionForm
from .calls import Call, Status

APPLICATION = "mvla_pruned_ros"
SPAWN, ENDING = "spawn", ".rrd"
REMEDY = 'pip install "mvla_pruned_ros[view]"'


def check_target(target: str) -> str:
    """``target``: ``spawn``, or a file that ends in .rrd; empty for no view.

    Raises:
        ValueError: it is neither, or Rerun is not installed; says what to do.
    """
    if not target:
        return target
    if target != SPAWN and Path(target).suffix != ENDING:
        raise ValueError(f"view is {target!r}: give {SPAWN} for a window, or a file that ends in {ENDING}")
    # The package `rerun` of PyPI is something else; this module has only Rerun's.
    if importlib.util.find_spec("rerun_bindings") is None:
        python = ".".join(map(str, sys.version_info[:2]))
        remedy = f"Python 3.11 or later, this is {python}" if sys.version_info < (3, 11) else REMEDY
        raise ValueError(f"view is {target!r}, which needs Rerun, and that is not installed: {remedy}")
    return target


def open_recording(target: str, *, endless: bool = False) -> Any:
    """A ``rerun.RecordingStream`` that writes to ``target``, see ``check_target``. A file that is there is replaced.

    Args:
        endless: for hours, perhaps. A file then gets no table of contents, which would grow in memory until the end
            (measured: 1.2 GB an hour); viewers read it from front to back instead.

    Rerun's Python library sends nothing of itself anywhere; its viewer would, see ``program``.

    Raises:
        ViewerError: the viewer did not start.
        OSError, RuntimeError: the file cannot be written.
    """
    import rerun

    rerun.set_strict_mode(True)  # what cannot be logged is raised, and not merely printed
    if target == SPAWN:
        from .program import URL, start_viewer

        start_viewer()
        recording = rerun.RecordingStream(APPLICATION)
        recording.connect_grpc(URL)
    else:
        Path(target).absolute().parent.mkdir(parents=True, exist_ok=True)
        recording = rerun.RecordingStream(APPLICATION)
        recording.save(target, write_footer=not endless)
    return recording


@contextlib.contextmanager
def showing(target: str, form: ActionForm) -> Iterator[Callable[[Call | Status], None]]:
    """A function that shows what it is given, each before it returns, as suits a replay; for a robot see ``live``.

    Args:
        target: see ``check_target``; empty for a function that shows nothing. form: of the policy's actions.

    Raises:
        ValueError, ViewerError, OSError, RuntimeError: as ``check_target`` and ``open_recording``.
    """
    if not check_target(target):
        yield lambda shown: None
        return
    recording = open_recording(target)
    from .scene import Scene

    try:
        yield Scene(recording, form).show
    finally:
        recording.disconnect()
