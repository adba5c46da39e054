"""The measurements for a GPU, rehearsed on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.evaluation.device.page import fragment
from mvla_pruned_ros.evaluation.device.parts import PARTS, CannotRunError, Part, Result, Setup
from mvla_pruned_ros.evaluation.device.suite import CANNOT, DONE, FAILED, NO_TIME, run_suite

SETUP = Setup("cpu", True, Path(__file__).parents[1])


def test_parts_are_saved_one_by_one_and_those_that_are_done_are_not_run_again(tmp_path: Path) -> None:
    """One that is cut, fails, lacks something or comes too late leaves the others."""
    path, calls = tmp_path / "gpu.json", []

    def part(name: str, minutes: float = 0.0) -> Part:
        def run(setup: Setup) -> Result:
            calls.append(name)
            if name == "lacking" and calls.count(name) == 1:
                raise CannotRunError("torchao is not installed")
            if name == "failing" and calls.count(name) == 1:
                raise MemoryError("16 GB are too few")
            if name == "cut" and calls.count(name) == 1:
                raise KeyboardInterrupt
            return {"rows": [{"policy": name, "largest": 0.25}]}

        return Part(name, minutes, run)

    parts = [part("good"), part("lacking"), part("failing"), part("long", minutes=60), part("cut"), part("last")]
    with pytest.raises(KeyboardInterrupt):
        run_suite(SETUP, path, 12, lambda line: None, parts)
    states = {name: entry["state"] for name, entry in json.loads(path.read_text())["parts"].items()}
    assert states == {"good": DONE, "lacking": CANNOT, "failing": FAILED, "long": NO_TIME}

    content = run_suite(SETUP, path, 90, lambda line: None, parts)
    assert {entry["state"] for entry in content["parts"].values()} == {DONE}
    assert calls.count("good") == 1 and calls.count("failing") == 2 and calls[-1] == "last"
    assert json.loads(path.read_text()) == content
    page = fragment(content)
    assert "A rehearsal" in page and "| policy | largest |" in page and "| last | 0.25 |" in page


def test_reasons_are_in_the_file_and_on_the_page(tmp_path: Path) -> None:
    def run(setup: Setup) -> Result:
        raise RuntimeError("CUDA out of memory")

    content = run_suite(SETUP, tmp_path / "gpu.json", 12, lambda line: None, [Part("mla-7b", 1.0, run)])
    entry = content["parts"]["mla-7b"]
    assert entry["state"] == FAILED and entry["reason"] == "RuntimeError: CUDA out of memory"
    assert 'raise RuntimeError("CUDA out of memory")' in entry["traceback"]
    assert "| mla-7b | failed: RuntimeError: CUDA out of memory |" in fragment(content)


def test_results_of_another_device_are_not_added_to(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"machine": {"device": "H200", "tiny": True}, "parts": {}}))
    with pytest.raises(ValueError, match="is of device 'H200', this is 'cpu': choose another --out"):
        run_suite(SETUP, path, 12, lambda line: None, [])
    path.write_text("[]")
    with pytest.raises(ValueError, match="is not a result file of `mvla gpu`"):
        run_suite(SETUP, path, 12, lambda line: None, [])


@pytest.mark.parametrize("name", ["agreement", "base"])
def test_parts_run_on_the_cpu(name: str) -> None:
    """Those that are quick there. The tests of test_cuda skip without a GPU; the others differ in the network."""
    rows = next(part for part in PARTS if part.name == name).run(SETUP)["rows"]
    if name == "agreement":
        assert {row["largest"] for row in rows} == {0.0}, "the CPU agrees with itself"
    else:
        assert [row["variant"] for row in rows] == ["upstream", "pruned", "cached", "pruned_cached"]
        assert all(row["policy_ms_p50"] > 0 and row["rounds"] == 3 for row in rows)


def test_a_rehearsal_has_to_be_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["gpu", "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert "--device cpu is for a rehearsal, which needs --tiny" in capsys.readouterr().err
