"""Work that takes long ends with a reason and keeps what it has: killed workers, cut files, outputs, devices."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from waiting import alive, wait_for

from mvla_pruned_ros.evaluation.success.workers import WorkerDiedError, WorkerPool
from mvla_pruned_ros.training.demonstrations import Demonstrations
from mvla_pruned_ros.training.ranks import Ranks


def square_or_die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
    return number**2


def square(number: int) -> int:
    time.sleep(0.01)
    return number**2


@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
def test_killed_worker_ends_the_work_with_a_reason_and_what_came_before_is_kept(way: str) -> None:
    found: list[int] = []
    with WorkerPool(1) as pool, pytest.raises(WorkerDiedError, match="fewer --workers"):
        for result in getattr(pool, way)(square_or_die, range(6)):
            found.append(result)
    assert sorted(found) == [0, 1, 4]


def report_and_sleep(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(60)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    files = [tmp_path / "0", tmp_path / "1"]
    code = (
        "from pathlib import Path\n"
        "from mvla_pruned_ros.evaluation.success.workers import WorkerPool\n"
        f"from {Path(__file__).stem} import report_and_sleep\n"
        f"with WorkerPool(2) as pool: list(pool.imap(report_and_sleep, [Path(f) for f in {[str(f) for f in files]}]))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent)
    assert wait_for(lambda: all(file.is_file() and file.read_text() for file in files), 60)
    parent.kill()
    parent.wait()
    assert wait_for(lambda: not any(alive(int(file.read_text())) for file in files), 20)


def test_results_come_whole_and_in_order() -> None:
    with WorkerPool(2) as pool:
        assert list(pool.imap(square, range(20), chunksize=3)) == [n**2 for n in range(20)]
        assert sorted(pool.imap_unordered(square, range(20))) == [n**2 for n in range(20)]


def demonstrations(frames: int = 3) -> Demonstrations:
    return Demonstrations(
        np.zeros((frames, 1, 8, 8, 3), np.uint8), np.ones((frames, 4), bool), np.zeros((frames, 4, 3), np.float32),
        np.zeros((frames, 4, 6, 3), np.float16), np.zeros((frames, 0, 3), np.uint8),
        np.zeros((frames, 4), np.float32), np.zeros((frames, 3), np.float32),
        np.zeros((frames, 2, 4), np.float32), np.zeros((frames, 3), np.float32),
        np.array(["push"] * frames), np.arange(frames, dtype=np.int32),
    )  # fmt: skip


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:300]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
        lambda path: np.savez(path, image=np.zeros(3)),
    ],
    ids=["cut", "empty", "pointer", "other arrays"],
)
def test_file_of_demonstrations_that_is_not_whole_is_named(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    demonstrations().save(good)
    demonstrations().save(bad)
    assert len(Demonstrations.load([good, bad])) == 6
    spoil(bad)
    with pytest.raises(ValueError, match=r"bad\.npz is no whole file of demonstrations .*recorded again"):
        Demonstrations.load([good, bad])


def test_weights_can_be_read_by_whoever_may_read_the_folder(tiny_policy_folder: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tiny_policy_folder.iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]


@pytest.mark.parametrize(("device", "gpu"), [("cuda:1", 1), ("cuda", 0), ("cpu", 0)])
def test_training_runs_on_the_device_that_was_asked_for(device: str, gpu: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    ranks = Ranks.join(torch.device(device))
    assert ranks.gpu == gpu and ranks.local == 0
