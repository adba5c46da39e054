"""What a policy node holds in each state of its life cycle, and lets go of on every way out."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="no ROS here: the node needs a graph")

from live_graph import SUCCESS, LiveGraph, graph, ros, wait_for  # noqa: F401

from mvla_pruned_ros.node import policy_node
from mvla_pruned_ros.policy.runtime import PolicyRuntime


def references(node: policy_node.PolicyNode) -> dict[str, weakref.ref[Any]]:
    loaded, worker = node._loaded, node._worker
    assert loaded is not None and worker is not None
    return {
        "policy": weakref.ref(loaded.policy),
        "runtime": weakref.ref(loaded.runtime),
        "builder": weakref.ref(loaded.builder),
        "worker": weakref.ref(worker),
    }


def held(found: dict[str, weakref.ref[Any]]) -> list[str]:
    return [name for name, reference in found.items() if reference() is not None]


@pytest.mark.parametrize("way", ["cleanup", "shutdown"])
def test_everything_is_let_go_of(graph: LiveGraph, way: str) -> None:
    node = graph.active()
    assert graph.robot.drive(lambda: graph.robot.moving)
    found = references(node)
    if way == "cleanup":
        assert node.trigger_deactivate() == SUCCESS and node.trigger_cleanup() == SUCCESS
    else:
        assert node.trigger_shutdown() == SUCCESS
    assert wait_for(lambda: not held(found)), held(found)  # a callback of the executor's thread may be at its end


def test_configuring_again_never_holds_two_policies(graph: LiveGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    node = graph.active()
    assert graph.robot.drive(lambda: graph.robot.moving)
    found, seen, load = references(node), [], policy_node.load

    def look(*arguments: Any) -> Any:
        seen.append(held(found))
        return load(*arguments)

    monkeypatch.setattr(policy_node, "load", look)
    assert node.trigger_deactivate() == SUCCESS and node.trigger_cleanup() == SUCCESS
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    assert seen == [[]]
    graph.robot.twists.clear()
    assert graph.robot.drive(lambda: graph.robot.moving)


def test_transition_that_raises_stops_the_arm_and_leaves_the_node_unconfigured(
    graph: LiveGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = graph.active()
    assert graph.robot.drive(lambda: graph.robot.moving)
    found = references(node)

    halt, failures = node._halt, [RuntimeError("made to fail")]

    def fail_once() -> None:
        if failures:
            raise failures.pop()
        halt()

    monkeypatch.setattr(node, "_halt", fail_once)
    node.trigger_deactivate()
    graph.robot.drive(lambda: not graph.robot.moving)
    assert not graph.robot.moving and not node._commander.active
    gc.collect()  # the exception and the frames it passed through are a cycle
    assert wait_for(lambda: not held(found)), held(found)  # another thread may be in the midst of letting go
    assert node.trigger_configure() == SUCCESS


def test_call_of_an_episode_that_is_over_moves_nothing(graph: LiveGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    node = graph.active()
    robot = graph.robot
    assert robot.drive(lambda: robot.moving)
    infer, inside, release = PolicyRuntime.infer, threading.Event(), threading.Event()

    def slow(*arguments: Any, **options: Any) -> Any:
        result = infer(*arguments, **options)
        inside.set()
        release.wait(10)
        return result

    monkeypatch.setattr(PolicyRuntime, "infer", slow)
    assert robot.drive(inside.is_set)
    chunks = node._chunks
    node._forget()  # as ~/reset and a clock jump do
    put: list[bool] = []
    original = chunks.put
    monkeypatch.setattr(chunks, "put", lambda *a: put.append(original(*a)) or put[-1])
    # Even without the worker's own look at the reset: the buffer itself refuses.
    node._worker._reset_wanted.clear()  # type: ignore[union-attr]
    release.set()
    assert wait_for(lambda: put)
    assert put[0] is False
