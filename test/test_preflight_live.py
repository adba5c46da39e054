"""``mvla preflight`` on the live graph: planted faults are found, named and remedied; a healthy robot is well."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="no ROS here: the live robot needs a graph")

from planted_faults import FAULTS
from preflight_graph import PreflightGraph, Robot, connected, of
from rclpy.node import Node

from mvla_pruned_ros.node.environment import prepare_environment
from mvla_pruned_ros.node.loading import load_policy
from mvla_pruned_ros.node.parameters import SPECS, Settings
from mvla_pruned_ros.preflight.finding import Level, exit_code, table

CODES = {Level.FAIL: 2, Level.WARN: 1, Level.UNKNOWN: 0}


@pytest.fixture(scope="module")
def graph() -> PreflightGraph:
    prepare_environment()
    values = {name: spec.default for name, spec in SPECS.items()} | {"policy": "small", "device": "cpu"}
    return PreflightGraph(load_policy(Settings.of(values), print))


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_named_with_its_remedy(name: str, graph: PreflightGraph) -> None:
    planted, check, level, says, remedy = FAULTS[name]
    report = graph.look(**planted)
    text = "\n".join(table(report.findings))
    found = [finding for finding in of(report, check) if finding.level is level and re.search(says, finding.found)]
    assert found, text
    assert any(remedy in finding.remedy or re.search(remedy, finding.remedy) for finding in found), text
    assert exit_code(report.findings) >= CODES[level]
    assert graph.robot is not None and not graph.robot.told, "something was sent to the controller"


def test_healthy_robot_is_well_and_nothing_moves(graph: PreflightGraph) -> None:
    ends: list[Any] = []

    def look_around(node: Node, robot: Robot) -> bool:
        if not connected(node, robot):
            return False
        publishers = robot.get_publisher_names_and_types_by_node("policy", "/")
        services = robot.get_service_names_and_types_by_node("policy", "/")
        clients = robot.get_client_names_and_types_by_node("policy", "/")
        ends.append((publishers, services, clients))
        return True

    report = graph.look(ready=look_around, once=("camera_info",))
    text = "\n".join(table(report.findings))
    assert {finding.level for finding in report.findings} == {Level.OK}, text
    assert exit_code(report.findings) == 0
    checks = [finding.check for finding in report.findings]
    assert checks == [
        "graph", "clock", "middleware", "image", "camera_info", "ee_pose", "gripper", "depth", "observations",
        "workspace", "extrinsics", "instruction", "policy", "deadline", "controller", "gripper command",
    ]  # fmt: skip
    assert "sent once" in text and "no distortion" in text and "9% invalid" in text
    assert graph.robot is not None and not graph.robot.told, "something was sent to the controller"
    [(publishers, services, clients)] = ends
    assert [name for name, _ in publishers] == ["/parameter_events"]
    assert not [name for name, _ in services if "type_description" not in name] and not clients
