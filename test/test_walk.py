"""The walk from image to command of docs/architecture.md is the one that a live node takes."""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="no ROS here: the node needs a graph")

from live_graph import LiveGraph, graph, ros  # noqa: F401

PAGE = (Path(__file__).parent.parent / "docs" / "architecture.md").read_text()
SECTION = PAGE[PAGE.index("## From image to command") : PAGE.index("## Where do I find")]
ROW = re.compile(r"^\| \d+ \| `([\w/]+)\.py` \| (.*?) \|", re.MULTILINE)
STEPS = [(file, re.findall(r": ([\w.]+)`", functions)) for file, functions in ROW.findall(SECTION)]


def test_each_of_at_most_ten_files_is_entered_once() -> None:
    files = [file for file, _ in STEPS]
    assert 5 < len(files) <= 10 and len(set(files)) == len(files)
    assert all(functions for _, functions in STEPS)


def test_live_node_calls_the_functions_in_this_order(graph: LiveGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    lock = threading.Lock()

    def traced(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "Synchronizer.wait":  # it waits most of the time: what counts is a match
                result = function(*args, **kwargs)
                if result is not None:
                    with lock:
                        calls.append(name)
                return result
            with lock:
                calls.append(name)
            return function(*args, **kwargs)

        return call

    names = [name for _, functions in STEPS for name in functions]
    for file, functions in STEPS:
        module = importlib.import_module(f"mvla_pruned_ros.{file.replace('/', '.')}")
        for name in functions:
            owner, _, attribute = name.rpartition(".")
            if owner:
                kind = getattr(module, owner)
                monkeypatch.setattr(kind, attribute, traced(getattr(kind, attribute), name))
            else:  # a function, where it was imported to
                from mvla_pruned_ros.observation import builder

                monkeypatch.setattr(builder, attribute, traced(getattr(module, attribute), name))
    graph.active()

    def walked() -> bool:
        with lock:
            rest = iter(list(calls))
        return all(name in rest for name in names)

    # The first command may be out before the timer has come round once more.
    assert graph.robot.drive(lambda: graph.robot.moving and walked()), f"no {names} in {calls[:200]}"
    call = calls[calls.index("Worker._infer") : calls.index("ChunkBuffer.put")]  # of the inference thread alone
    inner = [name for name in call if name in names[names.index("Worker._infer") : names.index("ChunkBuffer.put")]]
    assert inner == names[names.index("Worker._infer") : names.index("ChunkBuffer.put")]
