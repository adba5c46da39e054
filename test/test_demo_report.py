"""What `mvla demo` concludes from its figures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
pytest.importorskip("metaworld", reason="the simulator (Meta-World) is not installed")

from mvla_pruned_ros.rigs.demo.report import Played, compared, verdict
from mvla_pruned_ros.rigs.demo.session import UNPRUNED, DemoOptions, EpisodeLog, Way, patience_ms, tasks_of
from mvla_pruned_ros.sim.metaworld.tasks import DEMO_TASKS


def played(policy: str, *columns: tuple[float, float, str]) -> Played:
    """Episodes of seeds 0, 1, ... Args: columns: keep ratio, milliseconds, and ``+`` or ``-`` for each episode."""
    run = Played(DemoOptions(Path("out"), policy=policy))
    for keep, ms, outcomes in columns:
        call = {"image_in": 80, "points_in": 20, "image_kept": 80 * keep, "points_kept": 20 * keep, "policy_ms": ms}
        way = UNPRUNED if keep == 1 else Way("tri_stage", keep)
        run.logs += [
            EpisodeLog("push", seed, way, success == "+", 50, 1.0, [call]) for seed, success in enumerate(outcomes)
        ]
    return run


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (
            [(1, 30.0, "+++"), (0.4, 20.0, "+++")],
            "keeping 40% of the visual tokens allows 1.5x as many calls a second (30.0 to 20.0 ms a call), no episode "
            "lost.",
        ),
        (
            [(1, 10.4, "++-"), (0.5, 10.0, "--+")],
            "keeping 50% of the visual tokens hardly pays (10.4 to 10.0 ms a call), 2 episodes lost and 1 more solved.",
        ),
        ([(0.4, 20.0, "+++")], ""),
    ],
)
def test_sentence_says_what_the_figures_say(columns: list[tuple[float, float, str]], sentence: str) -> None:
    assert verdict([played("small", *columns)]) == (sentence and f"small: {sentence}")


@pytest.mark.parametrize(
    ("factor", "expected_ms"), [(1.0, 1200.0), (0.25, 4800.0), (0.0, 1200.0), (10.0, 1200.0), (0.001, 60_000.0)]
)
def test_a_slow_simulation_gets_so_much_more_patience(factor: float, expected_ms: float) -> None:
    robot: Any = SimpleNamespace(replan_steps=8, step_s=0.05)  # as LIBERO's, which need not be installed
    assert patience_ms(robot, factor) == pytest.approx(expected_ms)


def test_a_policy_is_shown_on_tasks_that_it_learned() -> None:
    assert tasks_of("medium") == ("push", "plate-slide", "drawer-open")
    assert tasks_of("small") == tasks_of(None) == tasks_of("/some/folder") == DEMO_TASKS


def test_table_leaves_a_policy_s_cell_empty_where_it_did_not_play() -> None:
    small, medium = played("small", (1, 10.0, "+"), (0.5, 9.0, "-")), played("medium", (1, 30.0, "+"), (0.5, 20.0, "+"))
    for log in medium.logs:
        log.task = "drawer-open"
    head, rows = compared([small, medium])
    assert head == ["", "small\nunpruned", "small\ntri_stage\n0.5", "medium\nunpruned", "medium\ntri_stage\n0.5"]
    assert rows[:3] == [
        ["success", "1 / 1", "0 / 1", "1 / 1", "1 / 1"],
        [" push", "1 / 1", "0 / 1", "", ""],
        [" drawer-open", "", "", "1 / 1", "1 / 1"],
    ]
    assert {row[0]: row[3] for row in rows}["calls/s, possible"] == "33.3"
