"""Faults put before a live policy node by the machinery of ``mvla faults``, and what of it needs no graph.

The matrix is run once, with the faults below; the tests look at its rows. All others of ``mvla faults`` differ from one
of these in the message, the stream or the signal only; their refusals are tested without a graph, signals in
test_signals.py, and drivers that come back in test_recovery.py.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")

from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.pruning.types import Evidence
from mvla_pruned_ros.rigs.faults.faulty_policy_node import corrupted, corrupted_evidence
from mvla_pruned_ros.rigs.faults.fuzz import FuzzRun, run_fuzz
from mvla_pruned_ros.rigs.faults.malformed import STREAMS
from mvla_pruned_ros.rigs.faults.matrix import FAULTS
from mvla_pruned_ros.rigs.faults.run import Row, chosen, run_matrix
from mvla_pruned_ros.rigs.faults.stop_trials import LIMIT_MS, StopRun, StopTrial, summary

DOMAIN = 1 + (int(os.environ["ROS_DOMAIN_ID"]) + 2) % 100
MATRIX_ROWS = 23  # of the fault table, without tf
IN_SUITE = (
    "image silent", "points silent", "duplicate stamps", "one stream 0.4 s late", "clock jumps back", "clock stops",
    "NaN and Inf among the points", "one malformed message", "big-endian points", "resolution changes", "slow policy",
    "first call after activation", "chunk exhausted", "NaN action", "action beyond the limits",
    "out of device memory once", "inference thread ends", "policy call hangs", "parameter NaN",
    "set with one bad value", "storm of parameters", "command listener restarts", "two publishers on one topic",
    "QoS of a command listener does not match", "QoS of a sensor does not match", "checkpoint missing",
    "pickled code for weights", "configuration of another size", "checkpoint mended", "deactivation in mid-inference",
    "SIGINT in mid-inference", "camera info sent once, then ~/reset", "lens distortion",
    "joints of an arm for the gripper", "half of the images in another encoding", "whole number for a ratio",
    "feature norm NaN", "motion refused while inactive", "instruction emptied in motion", "orientation changes signs",
    "parameter file for another node", "image_1 silent", "joint states without a joint",
)  # fmt: skip


@pytest.fixture(scope="module")
def rows(tiny_policy_folder: Path) -> dict[str, Row]:
    """By fault."""
    return {row.fault: row for row in run_matrix(str(tiny_policy_folder), IN_SUITE, DOMAIN)}


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.name in IN_SUITE], ids=lambda f: f"{f.name}: {f.expected}")
def test_node_survives(fault: object, rows: dict[str, Row]) -> None:
    row = rows[fault.name]  # type: ignore[attr-defined]
    assert row.passed, row.observed


def test_every_row_of_the_matrix_has_faults_and_a_test() -> None:
    assert len({f.row for f in FAULTS}) == MATRIX_ROWS
    assert {f.row for f in FAULTS if f.name in IN_SUITE} == {f.row for f in FAULTS}
    assert len({f.name for f in FAULTS}) == len(FAULTS) and set(IN_SUITE) <= {f.name for f in FAULTS}


def test_malformed_messages_over_dds_kill_no_node_and_move_no_arm(tiny_policy_folder: Path) -> None:
    run = run_fuzz(str(tiny_policy_folder), 320, seed=7, domain_id=DOMAIN)
    assert set(run.sent) == set(STREAMS) and all(run.sent.values()) and sum(run.sent.values()) == 320
    assert run.alive and run.recovered == run.recoveries > 0, run.failure
    assert run.beyond == 0 and run.commands > 50
    assert run.counted.get("malformed", 0) > 5, run.counted  # else they were not looked at


def test_stop_trials_tell_late_stops_from_stalls_of_the_machine() -> None:
    trials = [
        StopTrial("image", "long", LIMIT_MS, 0.0),
        StopTrial("depth", "long", LIMIT_MS + 1, 0.0),
        StopTrial("pose", "long", LIMIT_MS + 30, 31.0),
        StopTrial("all", "shipped", LIMIT_MS + 30, 29.0),
        StopTrial("all", "shipped", None, 1e6),
    ]
    figures = summary(StopRun(trials, 12.0, 3, 2))
    assert (figures["in_time"], figures["late_with_the_machine_at_rest"], figures["late"]) == (1, 1, 3)
    assert figures["stopped_ms"]["worst"] == LIMIT_MS + 30 and figures["false_stops"] == 1


def test_faults_are_chosen_by_part_of_their_name_and_those_that_end_the_node_come_last() -> None:
    assert [f.name for f in chosen(["clock jumps"])] == ["clock jumps back", "clock jumps forward"]
    everything = chosen([])
    assert len(everything) == len(FAULTS)
    depth = [f.ends for f in everything if f.setup == "depth"]
    assert depth == sorted(depth) and depth[-1]
    with pytest.raises(ValueError, match="no fault 'earthquake': choose from image silent"):
        chosen(["earthquake"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--only", "earthquake"], "no fault 'earthquake'"),
        (["--stop-trials", "0"], "--stop-trials: must be at least 1, got 0"),
        (["--fuzz", "3"], "fuzz needs at least 8 messages"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["faults", *arguments]) == 2
    error = capsys.readouterr().err
    assert reason in error and error.startswith("mvla faults: error: ") and error.count("\n") == 1


def test_list_names_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faults", "--list"]) == 0
    text = capsys.readouterr().out
    assert all(f.name.split()[0] in text for f in FAULTS)


def test_exit_code_and_file_tell_of_a_fault_that_was_not_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mvla_pruned_ros.rigs.faults import tool

    rows = [Row("a", "r", "stops", "stopped after 3 ms", True, 1.0), Row("b", "r", "stops", "NOT: stopped", False, 1.0)]
    monkeypatch.setattr(tool, "run_matrix", lambda *_: rows)
    assert tool.matrix("small", [], None, tmp_path / "faults.json") == 1
    written = json.loads((tmp_path / "faults.json").read_text())["rows"]
    assert [(row["fault"], row["passed"]) for row in written] == [("a", True), ("b", False)]
    assert written[0].keys() >= {"fault", "expected", "observed", "passed"}
    monkeypatch.setattr(tool, "run_matrix", lambda *_: rows[:1])
    assert tool.matrix("small", [], None, None) == 0


def test_file_of_malformed_messages_has_the_counts_by_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mvla_pruned_ros.rigs.faults import tool

    run = FuzzRun(recoveries=1, recovered=1)
    run.counted.update(malformed=3)
    monkeypatch.setattr(tool, "run_fuzz", lambda *_: run)
    assert tool.fuzz("small", 8, 1, None, tmp_path / "fuzz.json") == 0
    written = json.loads((tmp_path / "fuzz.json").read_text())
    assert written["counted"] == {"malformed": 3} and written["passed"] and written["seed"] == 1


@pytest.mark.parametrize(
    ("kind", "shape", "finite"),
    [("nan", (4, 3), False), ("infinite", (4, 3), False), ("wide", (4, 4), True), ("flat", (12,), True),
     ("none", (0, 3), True), ("slow", (4, 3), True)],
)  # fmt: skip
def test_faulty_policy_spoils_actions_as_it_says(kind: str, shape: tuple[int, ...], finite: bool) -> None:
    actions = np.ones((4, 3), np.float32)
    bad = corrupted(actions, kind)
    assert bad.shape == shape and np.isfinite(bad).all() == finite
    assert np.array_equal(actions, np.ones((4, 3)))  # the policy's own are left alone
    assert corrupted(actions, "long", 3).shape == (12, 3) and corrupted(actions, "fast").max() == 1000


@pytest.mark.parametrize(("which", "names"), [(None, []), (0, ["norm"]), (1, ["attention"])])
def test_faulty_policy_spoils_evidence_as_it_says(which: float | None, names: list[str]) -> None:
    evidence = Evidence(np.ones(4, np.float32), np.full(4, 0.1, np.float32))
    assert corrupted_evidence(evidence, which).not_finite() == names
    assert not evidence.not_finite()
