"""Arguments are refused when the command line is read: outputs that cannot be written, numbers, names."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import stat
from pathlib import Path

import pytest

from mvla_pruned_ros.cli import evaluate, options
from mvla_pruned_ros.cli.main import COMMANDS, main
from mvla_pruned_ros.models import policy_folder
from mvla_pruned_ros.pruning.tri_stage.config import TriStageConfig


def actions_of(command: str) -> list[argparse.Action]:
    """The arguments of a subcommand."""
    parser = argparse.ArgumentParser(add_help=False)
    importlib.import_module(f"mvla_pruned_ros.cli.{command}").add_arguments(parser)
    return parser._actions


# What must be given besides, in the order of the command line.
NEEDED = {"convert": ["run"], "replay": ["bag"], "tables": ["rows.json"]}
FILES, FOLDERS = {options.output_file}, {options.output_folder, options.new_folder}
OUTPUTS = [(c, a) for c in COMMANDS for a in actions_of(c) if a.type in FILES | FOLDERS]


def refusal(command: str, action: argparse.Action, value: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said to a value; nothing was created, and nothing done."""
    option = [f"{action.option_strings[0]}={value}"] if action.option_strings else [value]
    assert main([command, *NEEDED.get(command, []), *option]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"mvla {command}: error: argument {'/'.join(action.option_strings) or action.metavar}: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(("command", "action"), OUTPUTS, ids=[f"{c} {a.dest}" for c, a in OUTPUTS])
def test_output_that_cannot_be_written_is_found_before_the_work(
    command: str, action: argparse.Action, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    kind = tmp_path if action.type in FILES else tmp_path / "file"
    there = sorted(tmp_path.iterdir())
    assert "is empty" in refusal(command, action, "", capsys)
    assert "cannot be written (/proc: " in refusal(command, action, "/proc/x", capsys)
    assert "file: Not a directory" in refusal(command, action, f"{tmp_path}/file/below/x", capsys)
    assert "too long" in refusal(command, action, f"{tmp_path}/{'x' * 250}", capsys)
    assert "give a" in refusal(command, action, str(kind), capsys) or action.type is options.new_folder
    assert sorted(tmp_path.iterdir()) == there


def test_every_output_is_among_them() -> None:
    found = {f"{command} {action.dest}" for command, action in OUTPUTS}
    assert found == {
        "analyze out", "bench json", "bench plot", "calibrate out", "convert out", "demo out", "evaluate json",
        "faults json", "gpu out", "preflight out", "record out", "replay out", "soak json", "splices out", "train data",
        "train out",
    }  # fmt: skip


def test_outputs_that_can_be_written_are_taken_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.json").write_text("{}")
    for text in ("old.json", "new.json", "a/b/new.json", str(tmp_path / "é 100% ☃.json")):
        assert options.output_file(text) == Path(text)
    for text in (".", "a/b", str(tmp_path)):
        assert options.output_folder(text) == Path(text)
    assert options.new_folder("bag") == Path("bag")
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]


def test_devices_and_pipes_are_no_files_to_be_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/null", tmp_path / "pipe"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no ordinary file"):
            options.output_file(str(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_modes_are_told(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(argparse.ArgumentTypeError, match="Permission denied"):
        options.output_file(str(tmp_path / "locked" / "x.json"))


def test_folder_in_the_place_of_the_episodes_is_found_before_the_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.episodes.jsonl").mkdir()
    assert main(["evaluate", "--tasks", "push", "--json", str(tmp_path / "rows.json")]) == 2
    assert "rows.episodes.jsonl, where finished episodes go, is no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("evaluate --seed -5", "argument --seed: must be at least 0, got -5"),
        ("evaluate --workers 100000", "argument --workers: must be at most 4096, got 100000"),
        ("demo --episodes 1.5", "argument --episodes: must be a whole number, got '1.5'"),
        ("demo --policy=", "argument --policy: no policy ''"),
        ("bench --policy smal", "did you mean 'small'?"),
        ("bench --preset bas", "argument --preset: unknown preset 'bas': did you mean 'base'?"),
        ("train --out x --preset smal", "unknown preset 'smal': did you mean 'small"),
        ("replay bag --method tristage", "argument --method: unknown method 'tristage': did you mean 'tri_stage'?"),
        ("splices --tasks pusj", "argument --tasks: unknown task 'pusj': did you mean 'push'?"),
        ("soak --minutes nan", "argument --minutes: must be a number in [0.1, 100000], got 'nan'"),
        ("record --out x --domain-id 102", "argument --domain-id: must be at most 101, got 102"),
        ("calibrate --out=--", "argument --out: expected a value, got '--'"),
    ],
)
def test_mistake_is_told_with_the_argument_and_what_would_do(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and re.fullmatch(r"mvla \d+\.\d+\.\d+", capsys.readouterr().out.strip())


def test_result_file_of_another_kind_is_found_before_the_measurement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([1]))
    assert main(["bench", "--json", str(tmp_path / "rows.json")]) == 2
    assert "is not a result file of `mvla bench`" in capsys.readouterr().err


def test_name_of_a_suite_stands_for_its_ten_tasks() -> None:
    assert options.task_or_suite("libero_object") == "libero_object"
    assert options.task_or_suite("libero_spatial_scattered/9") == "libero_spatial_scattered/9"
    for text in ("libero_object/10", "libero", "libero_object_scattered/"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"unknown task '{text}': "):
            options.task_or_suite(text)
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    args = parser.parse_args(["--tasks", "push", "libero_object", "push", "--method", "none", "blind"])
    settings = evaluate._settings(args, policy_folder("small"), "cpu", TriStageConfig())
    assert [s.task for s in settings[::2]] == ["push", *(f"libero_object/{number}" for number in range(10))]
    assert [(s.method, s.keep) for s in settings[:2]] == [("none", 1.0), ("blind", 0.0)]
