"""Differences, means and tables of rows: known answers, and every cell where it belongs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import scipy.stats

from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.evaluation.success.intervals import (
    mean_interval,
    mean_paired_interval,
    paired_interval,
    wilson_interval,
)
from mvla_pruned_ros.evaluation.success.row_file import merge, read_rows, write_rows
from mvla_pruned_ros.evaluation.success.rows import MeanRow, Row
from mvla_pruned_ros.evaluation.success.summary import mean_rows, with_differences
from mvla_pruned_ros.evaluation.success.tables import Table, document, markdown, overview


def row(task: str, method: str, keep: float, successes: str, **changes: Any) -> Row:
    """A row with success by seed from a string of 0 and 1."""
    by_seed = [int(c) for c in successes]
    fields = {
        "policy": {"name": "small", "fingerprint": "f1"},
        "task": task,
        "method": method,
        "keep_asked": keep,
        "keep_measured": keep,
        "pruning": {},
        "tri_stage": {"window": 4} if method == "tri_stage" else None,
        "delay": 0,
        "instruction_of": None,
        "first_seed": 0,
        "episodes": len(by_seed),
        "successes": sum(by_seed),
        "interval": list(wilson_interval(sum(by_seed), len(by_seed))),
        "partner_successes": None,
        "steps_median": 60.0,
        "policy_ms_p50": 10.0,
        "selection_ms_p50": 1.25,
        "success_by_seed": by_seed,
        "command": f"mvla evaluate --method {method}",
        "machine": {"cpu": "a CPU", "cores": 2, "python": "3.11", "torch": "2.13"},
    }
    return Row.from_json(fields | changes)


def wide(successes: str, window: int = 2) -> Row:
    """An ablation on push."""
    changes: dict[str, Any] = {"pruning": {"window": window}, "tri_stage": {"window": window}}
    return row("push", "tri_stage", 0.25, successes, **changes)


AnyRow = TypeVar("AnyRow", Row, MeanRow)

ROWS = [
    row("push", "none", 1.0, "1111111111"),
    row("push", "random", 0.25, "1111100000"),
    row("push", "tri_stage", 0.25, "1111111100"),
    row("reach", "none", 1.0, "1111111110"),
    row("reach", "random", 0.25, "1111111100"),
    row("reach", "tri_stage", 0.25, "1111111110"),
]


def of(rows: Sequence[AnyRow], method: str, task: str = "push") -> AnyRow:
    return next(r for r in rows if r.method == method and getattr(r, "task", task) == task)


def test_rows_are_compared_with_none_and_with_random_at_the_same_keep_ratio() -> None:
    rows = with_differences(ROWS)
    none, random, tri = (of(rows, method).differences for method in ("none", "random", "tri_stage"))
    assert tri["minus_none"] == pytest.approx(paired_interval(ROWS[2].solved, ROWS[0].solved), abs=1e-4)
    assert tri["minus_random"] == pytest.approx(paired_interval(ROWS[2].solved, ROWS[1].solved), abs=1e-4)
    assert tri["minus_none"][0] == -0.2 and tri["minus_random"][0] == 0.3 and tri["minus_default"] is None
    assert none["minus_none"] is None and random["minus_random"] is None
    assert random["minus_tri_stage"] == pytest.approx([-tri["minus_random"][i] for i in (0, 2, 1)], abs=1e-4)
    assert tri["minus_tri_stage"] is None and none["minus_tri_stage"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"policy": {"name": "small", "fingerprint": "f2"}},
        {"delay": 4},
        {"latency": "measured"},
        {"replan": 8},
        {"first_seed": 1},
        {"first_seed": -1},
        {"task": "pick-place"},
        {"instruction_of": "reach"},
    ],
)
def test_rows_of_other_conditions_are_not_compared(change: dict[str, Any]) -> None:
    other = replace(row("push", "random", 0.5, "1111"), **change)
    rows = with_differences([row("push", "none", 1.0, "1111"), other])
    assert rows[1].differences["minus_none"] is None


def test_random_at_another_keep_ratio_is_not_compared() -> None:
    rows = with_differences([row("push", "random", 0.5, "1111"), row("push", "tri_stage", 0.25, "1111")])
    assert rows[1].differences["minus_random"] is None


def test_row_with_fewer_seeds_is_compared_on_its_own_seeds() -> None:
    rows = with_differences([row("push", "none", 1.0, "000111"), row("push", "fastv", 0.5, "110", first_seed=2)])
    difference = rows[1].differences["minus_none"]
    assert difference[0] == pytest.approx(0.0)
    assert difference == pytest.approx(paired_interval([True, True, False], [False, True, True]), abs=1e-4)


def test_ablation_is_compared_with_the_settings_of_the_policy() -> None:
    rows = with_differences([*ROWS, wide("1111111000")])
    assert rows[-1].differences["minus_default"][0] == -0.1 and rows[-1].differences["minus_none"][0] == -0.3
    # An ablation is nothing to compare with.
    assert with_differences([wide("1111"), wide("1110", window=8)])[1].differences["minus_default"] is None


def test_means_weigh_tasks_alike_and_are_paired() -> None:
    means = mean_rows(ROWS)
    assert [m.method for m in means] == ["none", "random", "tri_stage"]
    tri = of(means, "tri_stage")
    assert tri.tasks == ["push", "reach"] and tri.success == 0.85
    assert tri.interval == pytest.approx(mean_interval([8, 9], [10, 10])[1:], abs=1e-4)
    pruned, full = [ROWS[2].solved, ROWS[5].solved], [ROWS[0].solved, ROWS[3].solved]
    assert tri.differences["minus_none"] == pytest.approx(mean_paired_interval(pruned, full), abs=1e-4)
    assert tri.differences["minus_random"][0] == 0.2 and of(means, "none").differences["minus_none"] is None


def test_mean_difference_needs_every_task() -> None:
    assert of(mean_rows(ROWS[1:]), "tri_stage").differences["minus_none"] is None
    assert of(mean_rows(ROWS[1:]), "tri_stage").differences["minus_random"] is not None


@pytest.mark.parametrize("change", [{"delay": 4}, {"latency": "2x"}, {"first_seed": 5}, {"tri_stage": {"window": 5}}])
def test_only_rows_of_one_setting_have_a_mean(change: dict[str, Any]) -> None:
    assert mean_rows([ROWS[2], replace(ROWS[5], **change)]) == []


def test_exchanged_instructions_have_no_mean() -> None:
    assert mean_rows([replace(r, instruction_of="x", partner_successes=1) for r in ROWS]) == []


def test_file_comes_back_and_newer_rows_take_the_place_of_their_like(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.json"
    write_rows(path, ROWS)
    rows = read_rows(path)
    assert rows == with_differences(ROWS) and json.loads(path.read_text())["means"] == [
        mean.to_json() for mean in mean_rows(ROWS)
    ]
    better = row("push", "tri_stage", 0.25, "1" * 12)
    merged = merge(rows, [better, wide("11")])
    assert [r.episodes for r in merged] == [10, 10, 12, 10, 10, 10, 2]
    assert merge(merged, [ROWS[2]]) == merged, "a part of a row does not replace it"
    recalibrated = replace(ROWS[2], tri_stage={"window": 8})
    assert merge(merged, [recalibrated])[2] == recalibrated
    write_rows(path, merged)
    # Differences are made anew: `none` has but ten of the twelve seeds.
    assert read_rows(path)[2].differences["minus_none"] is None


def test_older_published_file_is_read_and_written_as_it_is(tmp_path: Path) -> None:
    """It names neither latency nor replan, and holds no time, way and jerk."""
    published = Path(__file__).parents[1] / "docs" / "benchmarks" / "success_medium.json"
    rows = read_rows(published)
    assert {(r.circumstances, r.completion_s, r.path_m) for r in rows} == {((0, None, 4, None), None, None)}
    write_rows(tmp_path / "again.json", rows)
    assert (tmp_path / "again.json").read_text() == published.read_text()


def test_row_that_names_what_was_meant_before_takes_the_place_of_an_older_one() -> None:
    new = replace(ROWS[0], replan=4, device="cpu", completion_s=0.5, path_m=0.3, jerk_m_s3=20.0)
    assert merge(ROWS, [new])[0] == new and len(merge(ROWS, [new])) == len(ROWS)


def test_means_show_time_way_and_jerk_where_they_are_known() -> None:
    known = [replace(r, completion_s=1.0 + k, path_m=0.25, jerk_m_s3=30.0) for k, r in enumerate((ROWS[2], ROWS[5]))]
    (line,) = [line for line in document(known).splitlines() if line.startswith("| tri_stage | 0.25 |")]
    assert line.endswith("| 10.0 | 1.25 | 1.50 | 0.25 | 30.0 |")
    assert "jerk" not in document(ROWS)


def test_times_are_compared_where_both_solved_an_episode() -> None:
    def timed(task: str, method: str, keep: float, *times: float | None) -> Row:
        solved = "".join("0" if time is None else "1" for time in times)
        return replace(row(task, method, keep, solved), completion_by_seed=list(times), path_m=0.25)

    rows = [
        timed("push", "none", 1.0, 9.0, 4.0, 5.0, None),
        timed("reach", "none", 1.0, 9.0, None, 5.0),
        replace(timed("push", "tri_stage", 0.25, 3.0, 4.5, 2.0), first_seed=1),
        timed("reach", "tri_stage", 0.25, 8.0, 1.0, None),
    ]
    compared = with_differences(rows)
    half = 12.7062 * 0.25  # Student's t of one degree of freedom; standard error of -1 and -0.5 s
    assert compared[2].differences["completion_minus_none"] == pytest.approx(
        [-0.75, -0.75 - half, -0.75 + half], abs=1e-3
    )
    assert all("completion_minus_none" not in compared[one].differences for one in (0, 3)), "one pair has no interval"
    assert Row.from_json(compared[2].to_json()) == compared[2]
    same_seeds = [*rows[:2], timed("push", "tri_stage", 0.25, 9.0, 3.0, 4.5), rows[3]]
    (mean,) = [m for m in mean_rows(same_seeds) if m.method == "tri_stage"]
    low, high = scipy.stats.t.interval(0.95, 3, -0.625, scipy.stats.sem([0.0, -1.0, -0.5, -1.0]))
    assert mean.differences["completion_minus_none"] == pytest.approx([-0.625, low, high], abs=1e-4)
    assert f"| -0.62 [{low:+.2f}, {high:+.2f}] |" in document(same_seeds)


def test_markdown_is_githubs() -> None:
    table = Table("Title", ("a", "b"), ((("x", "1"),), (("y", "2"),)))
    assert markdown(table) == "### Title\n\n| a | b |\n| --- | ---: |\n| x | 1 |\n| y | 2 |\n"


def test_document_has_each_table() -> None:
    swapped = row("push", "tri_stage", 1.0, "0000000000", instruction_of="reach", partner_successes=9)
    text = document([*ROWS, wide("1111111000"), swapped])
    lines = text.splitlines()
    assert lines[0] == "## Policy small (f1), seeds 0 to 9"
    headings = [line for line in lines if line.startswith("### ")]
    assert headings == [
        "### Unpruned",
        "### random by keep ratio: success (minus none)",
        "### tri_stage by keep ratio: success (minus none)",
        "### Mean of 2 tasks",
        "### tri_stage at keep ratio 0.25, settings changed: success (minus the policy's own settings)",
        "### Instructions exchanged",
    ]
    assert "| push | 10/10 | [72.2, 100] | 60 | 10.0 |" in lines
    d, low, high = (round(100 * x, 1) for x in paired_interval(ROWS[2].solved, ROWS[0].solved))
    assert f"| push | 80 ({d:+g} [{low:+g}, {high:+g}]) |" in lines and d == -20
    assert any(line.startswith("| mean of 2 tasks | 85 (-10 [") for line in lines)
    (mean,) = [line for line in lines if line.startswith("| tri_stage | 0.25 ")]
    assert mean.startswith("| tri_stage | 0.25 | 0.250 | 85 % | [") and mean.endswith("| 10.0 | 1.25 |")
    assert "| task | own settings | window=2 |" in lines
    assert any(line.startswith("| push | 80 | 70 (-10 [") for line in lines)
    assert "| push | reach | tri_stage | 1 | 0/10 | 9/10 |" in lines
    assert "- `mvla evaluate --method none` (a CPU, 2 cores, Python 3.11, torch 2.13)" in lines


def test_document_keeps_conditions_apart() -> None:
    other = [replace(r, policy={"name": "base", "fingerprint": "f2"}) for r in ROWS]
    late = [replace(r, delay=4) for r in ROWS]
    live = [replace(r, latency="1.5x", replan=8) for r in ROWS]
    text = document([*ROWS, *other, *late, *live])
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Policy small (f1), seeds 0 to 9",
        "## Policy base (f2), seeds 0 to 9",
        "## Policy small (f1), seeds 0 to 9, actions 4 steps after their observation",
        "## Policy small (f1), seeds 0 to 9, latency 1.5x, observations every 8 steps",
    ]
    once = document(ROWS).splitlines()[2:]
    assert all(text.count(line) == 4 for line in once if line.startswith("### "))


def test_rows_of_different_calibrations_are_not_shown_as_one() -> None:
    with pytest.raises(ValueError, match="different calibrations of the policy on push and reach"):
        document([ROWS[2], replace(ROWS[5], tri_stage={"window": 8})])


def test_mean_is_not_shown_beside_tasks_that_it_leaves_out() -> None:
    text = document([*ROWS, row("pick-place", "random", 0.25, "1111111111")])
    curve = text.split("### tri_stage by")[0].split("### random by")[1]
    assert "mean of 3 tasks" in curve
    curve = document([*ROWS, row("pick-place", "random", 0.5, "1111111111")]).split("### random by")[1]
    assert "mean" not in curve.split("###")[0]


def test_overview_groups_by_task_and_ends_with_the_means() -> None:
    table = overview(with_differences(ROWS), mean_rows(ROWS))
    assert [{line[0] for line in group} for group in table.groups] == [{"push"}, {"reach"}, {"mean of 2 tasks"}]
    assert all(len(line) == len(table.header) for group in table.groups for line in group)
    assert "minus none" in table.header and "minus default" not in table.header


def test_command_prints_the_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path / "a.json", ROWS[:3])
    write_rows(tmp_path / "b.json", ROWS[3:])
    assert main(["tables", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    assert capsys.readouterr().out == document(ROWS)
    assert main(["tables", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--tasks", "reach"]) == 0
    assert capsys.readouterr().out == document(ROWS[3:])
    assert main(["tables", str(tmp_path / "a.json"), "--tasks", "juggle"]) == 2
    assert "no rows of task 'juggle': there are push" in capsys.readouterr().err
    assert main(["tables", str(tmp_path / "c.json")]) == 2
    assert "c.json is not a file of `mvla evaluate --json`" in capsys.readouterr().err


def test_tasks_of_several_suites_have_means_of_each_as_well() -> None:
    tasks = {
        "libero_object/0": "1111",
        "libero_object/1": "1100",
        "libero_spatial/0": "1000",
        "libero_spatial/1": "0000",
    }
    text = document([row(task, "none", 1.0, successes) for task, successes in tasks.items()])
    means = [line for line in text.split("\n") if line.startswith(("### Mean", "| none"))]
    assert means[::2] == [
        f"### Mean of {n} tasks{of}" for n, of in ((4, ""), (2, " of libero_object"), (2, " of libero_spatial"))
    ]
    assert [line.split(" | ")[3] for line in means[1::2]] == ["43.8 %", "75 %", "12.5 %"]
