"""What a training finds of an interrupted one, and what it leaves when the disk is full."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.training import loop
from mvla_pruned_ros.training.config import TrainingConfig
from mvla_pruned_ros.training.demonstrations import Demonstrations

SMALL = MVLAConfig(
    image_size=32, num_groups=8, group_size=6, width=32, depth=2, heads=2, mlp_width=32, chunk_size=4,
    evidence_layers=(1,),
)  # fmt: skip
SIX_STEPS = TrainingConfig(steps=6, batch_size=4, warmup_steps=3)


def train(folder: Path) -> None:
    rng, frames = np.random.default_rng(0), 8
    data = Demonstrations(
        np.zeros((frames, 1, 32, 32, 3), np.uint8), np.ones((frames, 4), bool),
        rng.normal(size=(frames, 8, 3)).astype(np.float32), rng.normal(size=(frames, 8, 6, 3)).astype(np.float16),
        np.zeros((frames, 0, 3), np.uint8), np.zeros((frames, 4), np.float32), np.zeros((frames, 3), np.float32),
        rng.normal(size=(frames, 4, 4)).astype(np.float32), np.full((frames, 3), np.nan, np.float32),
        np.array(["push"] * frames), np.arange(frames, dtype=np.int32),
    )  # fmt: skip
    loop.train(data, SMALL, SIX_STEPS, folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(folder)
    return folder


@pytest.fixture
def out(trained: Path, tmp_path: Path) -> Path:
    """A folder of its own with that training in it."""
    return shutil.copytree(trained, tmp_path / "out")


def change(path: Path, **entries: Any) -> None:
    """Of a checkpoint; None removes an entry."""
    state = torch.load(path, weights_only=True) | entries
    torch.save({name: value for name, value in state.items() if value is not None}, path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:500]),
        lambda path: path.write_bytes(path.read_bytes()[:-500]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a checkpoint"),
        lambda path: torch.save([1, 2], path),
        lambda path: change(path, settings=None),
        lambda path: change(path, model=None),
        lambda path: change(path, optimizers={}),
        lambda path: change(path, step=None),
    ],
    ids=["cut", "tail", "empty", "text", "list", "no settings", "no model", "no optimizer", "no step"],
)
def test_checkpoint_that_is_not_whole_is_named_with_a_remedy(spoil: Callable[[Path], Any], out: Path) -> None:
    spoil(out / "training.pt")
    with pytest.raises(ValueError, match=r"cannot go on from .*training\.pt: (.|\n)*choose another --out, or delete"):
        train(out)


def test_full_disk_names_the_file_and_the_last_checkpoint_stays(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(out / "training.pt", step=3)  # as if it had been stopped there
    before = (out / "training.pt").read_bytes()

    def full(state: Any, path: Path) -> None:
        path.write_bytes(b"the beginning")
        raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"training\.pt cannot be written, the last one stays: .*write failed; free some"):
        train(out)
    assert (out / "training.pt").read_bytes() == before and not list(out.glob("*.partial"))


def test_lines_of_the_log_that_are_not_whole_are_left_out(out: Path) -> None:
    change(out / "training.pt", step=5)
    (out / loop.LOG).write_text("step,loss,seconds\n\n2,0.5,1.0\n,\nnonsense\n3,x,y\n5,0.25,2.0\n\n9,0.1,3.0\n5,0.")
    train(out)
    assert (out / loop.LOG).read_text().split() == ["step,loss,seconds", "2,0.5,1.0", "5,0.25,2.0"]
