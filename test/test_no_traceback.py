"""Every argument of every command with everything that may be given in its place: one line of reason, no traceback.

Nothing heavy is run: the first step of the work behind each command raises ``Started``, and the value counts as taken.
"""

from __future__ import annotations

import argparse
import contextlib
import pickle
import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bags import numbers_of, write_bag
from conftest import camera_at, make_observation
from test_arguments import FILES as FILE_TYPES
from test_arguments import FOLDERS as FOLDER_TYPES
from test_arguments import actions_of

from mvla_pruned_ros.cli import options
from mvla_pruned_ros.cli.main import COMMANDS, main

NUMBERS = ("-5", "0", "1", "100000000000000000000", "9" * 5000, "0x10", "nan", "inf", "-1.5", "1e308", "abc")
NAMES = (
    "", " ", "nonsense", "push.", "pusj", "../../etc", "--", "-", "é中🤖", "50% off %s %(x)d", "a=b", ":=", "image:=/x",
    "window=nan", "os:system", "no.such:thing", "x" * 5000, "[bold]", "\udcff",
)  # fmt: skip
FILES = ("nowhere", "nowhere/x", "folder", "empty", "random", "text", "pointer", "with 100% space", "mapping.json",
         "list.json", "rows.json", "text/below", "/proc/nope/x", "/dev/null", "loop")  # fmt: skip
# What must be given besides, by command; the ways that a command works in.
WAYS: dict[str, list[list[str]]] = {
    "analyze": [["--task", "push"], ["BAG", "POSE"]],
    "bench": [[], ["--sensor-to-command"], ["--read", "rows.json", "--plot", "plot.html"]],
    "convert": [["POLICY", "new"], ["run", "new"]],
    "faults": [[], ["--stop-trials", "3"], ["--fuzz", "9"]],
    "preflight": [[], ["BAG", "POSE"]],
    "record": [["--out", "new"], ["--out", "new", "--expert"]],
    "replay": [["BAG", "POSE"], ["BAG", "--follow"], ["BAG", "--live"]],
    "tables": [["rows.json"]],
    "train": [["--out", "out"], ["--out", "out", "--bag", "BAG", "POSE"]],
}
CASES = [(command, way) for command in COMMANDS for way in WAYS.get(command, [[]])]


class Started(BaseException):
    """The work has begun."""


def start(*_: Any, **__: Any) -> Any:
    raise Started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_policy_folder: Path) -> Path:
    """Where commands run: with files of every kind."""
    folder = tmp_path_factory.mktemp("paths") / "a" / "b" / "c"
    (folder / "folder").mkdir(parents=True)
    random = np.random.default_rng(0).bytes(4096)
    for name, content in {
        "empty": b"", "random": random, "text": b"once upon a time\n", "with 100% space": b"once\n",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "mapping.json": b'{"rows": 3, "a": [1]}', "list.json": b"[1, null]", "rows.json": b'{"rows": [{"task": 1}]}',
    }.items():  # fmt: skip
        (folder / name).write_bytes(content)
    (folder / "loop").symlink_to("loop")
    shutil.copytree(tiny_policy_folder, folder / "POLICY")
    frames = ["push the puck to the goal", *(make_observation(seed, stamp_ns=seed * 10**8) for seed in (10, 11))]
    write_bag(folder / "BAG", frames, commands=True)
    return folder


@pytest.fixture
def stubs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for target in (
        "policy.source.PolicySource.load", "evaluation.success.sweep.run_sweep", "training.collect.collect",
        "evaluation.calibration.sweep.CalibrationSweep.record", "training.expert.record_bag", "training.loop.train",
        "training.from_bags.bag_demonstrations", "evaluation.latency.subject.Subject.random",
        "evaluation.latency.subject.Subject.trained", "evaluation.latency.results_file.write_page",
        "policy.mvla.repack.repack", "policy.mla.convert.read_checkpoint",
    ):  # fmt: skip
        monkeypatch.setattr(f"mvla_pruned_ros.{target}", start)
    with contextlib.suppress(ImportError):  # then commands that need ROS say so
        monkeypatch.setattr("mvla_pruned_ros.rigs.graph.Graph.__init__", start)
        monkeypatch.setattr("mvla_pruned_ros.node.preflight_run.look", start)
    monkeypatch.setattr("mvla_pruned_ros.policy.engine.device.set_threads", lambda count: None)
    monkeypatch.chdir(folder)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def outcome(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is wrong with how a command ended; nothing when it is as it should be."""
    try:
        code: Any = main(words)
    except Started:
        code = 0
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if not line.startswith("  ")]  # but for lists of topics
    if code not in (0, 1, 2) or "Traceback" in said or (code and not 1 <= len(lines) <= 3):
        return f"{code}: {said[:600]!r}"
    return ""


def ways_to_give(action: argparse.Action, value: str) -> Iterator[list[str]]:
    name = action.option_strings[-1:]
    if isinstance(action.nargs, int) and action.nargs > 1:
        yield [*name, *[value] * action.nargs]
        yield [*name, *["0.5"] * (action.nargs - 1), value]
    else:
        yield [f"{name[0]}={value}"] if name else [value]


def findings(command: str, way: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    pose = ["--extrinsics", *map(str, numbers_of(camera_at().base_from_camera))]
    given = [part for word in way for part in (pose if word == "POSE" else [word])]
    positional = [a for a in actions_of(command) if not a.option_strings]
    wrong = []
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # as it is outside pytest
    for action in actions_of(command):
        words_too = action.type in (None, Path, options.policy, options.word, *FILE_TYPES, *FOLDER_TYPES)
        for value in NUMBERS[::2] + NAMES + FILES if words_too else NUMBERS + NAMES[:8]:
            for words in ways_to_give(action, value):
                if action in positional and (place := positional.index(action)) < len(given):
                    whole = [command, *given[:place], *words, *given[place + 1 :]]
                else:
                    whole = [command, *given, *words]
                if found := outcome(whole, capsys):
                    wrong.append(f"mvla {' '.join(whole)[:150]!r}: {found}")
    return wrong


@pytest.mark.parametrize(("command", "way"), CASES, ids=[" ".join([c, *w]) for c, w in CASES])
def test_whatever_is_given_is_answered_in_few_lines(
    command: str, way: list[str], stubs: None, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = findings(command, way, capsys)
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="module")
def damaged(folder: Path) -> Path:
    """Bags, policy folders and runs of upstream that are none."""
    random, mcap = np.random.default_rng(1).bytes(4096), next((folder / "BAG").glob("*.mcap")).read_bytes()
    for name, content in {
        "cut.mcap": mcap[: len(mcap) // 2], "head.mcap": mcap[:9], "random.mcap": mcap[:8] + random,
        "ros1.bag": b"#ROSBAG V2.0\n" + random, "random.db3": b"SQLite format 3\0" + random, "list.mcap.zstd": random,
    }.items():  # fmt: skip
        (folder / name).write_bytes(content)
    sqlite3.connect(folder / "no_tables.db3").close()
    for name, content in {
        "none": b"",
        "nonsense": random,
        "words": b"a: [",
        "list": b"- 1\n",
        "other": b"a: 1\n",
    }.items():
        shutil.copytree(folder / "BAG", folder / f"bag_{name}")
        (folder / f"bag_{name}" / "metadata.yaml").write_bytes(content)
    for name, file, content in (
        ("nonsense", "config.json", random), ("empty", "config.json", b""), ("list", "config.json", b"[]"),
        ("types", "config.json", b'{"width": "wide", "step_s": 0.1}'), ("zero", "config.json", b'{"heads": 0}'),
        ("huge", "config.json", b'{"width": 1e400, "step_s": 0.1}'), ("cut", "model.safetensors", random),
        ("words", "tokenizer.json", b"{}"), ("scale", "normalization.json", b'{"q01": "x"}'),
        ("pruning", "pruning.json", b'{"tri_stage": 3}'), ("architecture", "config.json", b'{"architecture": [1]}'),
    ):  # fmt: skip
        shutil.copytree(folder / "POLICY", folder / f"policy_{name}")
        (folder / f"policy_{name}" / file).write_bytes(content)
    shutil.copytree(folder / "POLICY", folder / "policy_pickled")
    (folder / "policy_pickled" / "model.safetensors").write_bytes(pickle.dumps(print))
    shutil.copytree(folder / "POLICY", folder / "policy_weightless")
    (folder / "policy_weightless" / "model.safetensors").unlink()
    for name, content in (("random", random), ("pickled", pickle.dumps(print)), ("none", b"")):
        (folder / f"run_{name}" / "checkpoints").mkdir(parents=True)
        (folder / f"run_{name}" / "config.json").write_text("{}")
        (folder / f"run_{name}" / "checkpoints" / "step-1.pt").write_bytes(content)
    return folder


BAG_READERS = [
    "replay BAD",
    "replay BAD --follow",
    "replay BAD --live",
    "analyze BAD",
    "train --out out --bag BAD",
    "calibrate --bag BAD POSE",
]
POLICY_READERS = [
    "replay BAG POSE --policy BAD", "analyze --task push --policy BAD", "bench --policy BAD", "convert BAD new",
    "evaluate --policy BAD", "calibrate --policy BAD", "splices --policy BAD",
]  # fmt: skip
ROW_READERS = ["tables BAD", "bench --read BAD --plot plot.html", "bench --json BAD", "evaluate --json BAD"]


@pytest.mark.parametrize("command", BAG_READERS + POLICY_READERS + ROW_READERS)
def test_whatever_lies_in_a_file_is_answered_in_few_lines(
    command: str, stubs: None, damaged: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if command in BAG_READERS:
        given = [*damaged.glob("*.mcap*"), *damaged.glob("*.db3"), *damaged.glob("*.bag"), *damaged.glob("bag_*")]
    elif command in POLICY_READERS:
        given = [*damaged.glob("policy_*"), *damaged.glob("run_*")]
        monkeypatch.undo()  # a damaged one is not loaded, and what follows is not begun
        monkeypatch.chdir(damaged)
        for target in ("success.sweep.run_sweep", "calibration.sweep.CalibrationSweep.record", "latency.bench.measure",
                       "splices.measure.spliced_episode"):  # fmt: skip
            monkeypatch.setattr(f"mvla_pruned_ros.evaluation.{target}", start)
        for target in ("analysis.sources.simulated_calls", "replay.run.replay"):
            monkeypatch.setattr(f"mvla_pruned_ros.{target}", start)
    else:
        given = [path for path in damaged.iterdir() if path.is_file()]
    pose = ["--extrinsics", *map(str, numbers_of(camera_at().base_from_camera))]
    wrong = []
    for path in given:
        words = [
            part for word in command.replace("BAD", path.name).split() for part in (pose if word == "POSE" else [word])
        ]
        shutil.rmtree(damaged / "new", ignore_errors=True)
        if found := outcome(words, capsys):
            wrong.append(f"mvla {' '.join(words)}: {found}")
    assert given and not wrong, "\n".join(wrong)
