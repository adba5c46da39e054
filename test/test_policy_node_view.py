"""The parameter `view` of a live policy node: what the file holds, and that the robot moves on without it."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="no ROS here: the node needs a graph")

from live_graph import SUCCESS, LiveGraph, graph, refusal, ros, wait_for  # noqa: F401
from rerun_files import logged, rerun, rows_of

from mvla_pruned_ros.viewer import live


@rerun
def test_file_holds_calls_commands_and_faults(
    graph: LiveGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mvla_pruned_ros.viewer.scene import Scene

    file, drawn = tmp_path / "node.rrd", Counter[str]()
    log = Scene._log
    monkeypatch.setattr(Scene, "_log", lambda self, entities: (drawn.update(list(entities)), log(self, entities))[1])
    node, robot = graph.active(view=str(file), method="tri_stage"), graph.robot
    # How many calls that takes depends on the machine: some are dropped while Rerun is imported, late ones splice none.
    assert robot.drive(lambda: drawn["world/actions"] >= 12 and drawn["splices/jump"] > 5, timeout_s=40.0), drawn
    assert wait_for(lambda: robot.status and "no data for more than" in robot.status.message)
    assert node.trigger_deactivate() == SUCCESS and node.trigger_cleanup() == SUCCESS
    rows, messages = rows_of(file), [words for (words,) in logged(file, "/diagnostics", "text")]
    assert rows["/world/actions"] == rows["/latency_ms/image_to_actions"] >= 12
    assert rows["/splices/jump"] == drawn["splices/jump"] > 5 and rows["/commands/commands_spliced"] > 5
    assert "running" in messages and any("the arm is stopped" in words for words in messages)


@rerun
def test_no_policy_call_waits_for_a_view_that_is_slow(
    graph: LiveGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mvla_pruned_ros.viewer.scene import Scene

    drawn = []
    monkeypatch.setattr(Scene, "show", lambda _, shown: (time.sleep(0.5), drawn.append(shown)))
    graph.active(view=str(tmp_path / "a.rrd"))
    robot = graph.robot
    assert robot.drive(lambda: len(robot.calls) > 25)
    assert len(drawn) < 10 and max(call["latency_ms"] for call in robot.calls[1:]) < 400
    assert robot.drive(lambda: int(robot.values()["view_dropped"]) > 0)


@rerun
def test_robot_moves_on_when_nothing_can_be_shown(graph: LiveGraph, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    graph.active(view=str(tmp_path / "file" / "a.rrd"))
    robot = graph.robot
    assert robot.drive(lambda: robot.moving and robot.status and "the view shows nothing" in robot.status.message)
    assert robot.drive(lambda: int(robot.values()["view_dropped"]) > 0)


def test_without_the_extra_the_node_says_what_to_install(
    graph: LiveGraph, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rerun_bindings" else find(name))
    error = refusal(graph.node(view="spawn"), capfd)
    assert "mvla_pruned_ros[view]" in error or sys.version_info < (3, 11)


def test_a_node_without_a_view_has_no_thread_for_one(graph: LiveGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.LiveView, "__init__", lambda *_: pytest.fail("nobody asked for it"))
    node = graph.active()
    assert graph.robot.drive(lambda: graph.robot.moving)
    assert node._calls.view is None and "view_dropped" not in graph.robot.values()
