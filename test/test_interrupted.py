"""Ctrl-C, which a terminal sends to every process of a command, ends it in one line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("metaworld", reason="the simulator extra is not installed: pip install .[sim]")

PATIENCE_S = 90.0


def children(process: int) -> int:
    return len(Path(f"/proc/{process}/task/{process}/children").read_text().split())


def running(group: int) -> list[str]:
    """Processes of a group that have not ended, by what /proc has of them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, own = path.read_text().rpartition(")")[2].split()[:3]
            if int(own) == group and state != "Z":
                found.append(path.read_text())
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for workers in /proc")
@pytest.mark.parametrize("settled_s", [0.0, 2.0])
@pytest.mark.parametrize(
    ("words", "begun"),
    [
        ("evaluate --tasks push --episodes 500 --workers 2 --json OUT/rows.json", lambda out, pid: children(pid) > 2),
        ("train --preset small --workers 2 --out OUT/policy", lambda out, pid: children(pid) > 2),
        ("record --expert --tasks push --episodes 500 --out OUT/bag", lambda out, pid: (out / "bag").exists()),
    ],
    ids=["evaluate", "train", "record"],
)
def test_interrupted_command_ends_in_one_line(
    words: str, begun: Callable[[Path, int], bool], settled_s: float, tmp_path: Path
) -> None:
    """settled_s: from the start of the workers, which import first, to the signal."""
    command = [sys.executable, "-m", "mvla_pruned_ros.cli.main", *words.replace("OUT", str(tmp_path)).split()]
    with (tmp_path / "err").open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # pytest may itself be deaf to it
        )  # fmt: skip
        try:
            until = time.monotonic() + PATIENCE_S
            while not begun(tmp_path, process.pid):
                assert time.monotonic() < until and process.poll() is None, (tmp_path / "err").read_text()
                time.sleep(0.02)
            time.sleep(settled_s)
            os.killpg(process.pid, signal.SIGINT)
            # Python ends itself by the signal where that came inside of exec(), as in dataclasses: 130 to a shell, too.
            assert process.wait(30) in (130, -signal.SIGINT), (tmp_path / "err").read_text()
            until = time.monotonic() + 5.0
            while left := running(process.pid):
                assert time.monotonic() < until, left
                time.sleep(0.05)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    said = (tmp_path / "err").read_text()
    lines = [line for line in said.splitlines() if "warn" not in line.lower()]  # Meta-World
    assert lines == [f"mvla {words.split()[0]}: interrupted"], said
