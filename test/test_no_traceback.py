"""Every argument of every command with everything that may be given in its place: one line of reason, no traceback.

Nothing heavy is run: the first step of the work behind each command raises ``Started``, and the value counts as taken.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
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
