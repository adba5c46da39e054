"""The simulator dies in mid-episode and comes back: the policy node stops the arm, says why, and goes on by itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
pytest.importorskip("metaworld", reason="the simulator (Meta-World) is not installed")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped

from mvla_pruned_ros.rigs.child_process import ChildNode, end_all
from mvla_pruned_ros.rigs.demo.session import COMMAND_REMAPS, DemoOptions, start_policy
from mvla_pruned_ros.rigs.graph import Graph

AGE_LIMIT_S = 0.5  # default of max_observation_age_ms
SLACK_S = 1.0  # a busy computer


def start_simulator(graph: Graph, folder: Path) -> ChildNode:
    return ChildNode(
        "simulator",
        "mvla_pruned_ros.sim.node",
        folder / "simulator.log",
        {"task": "push", "real_time_factor": 0.5},
        {**COMMAND_REMAPS, "~/instruction": "/policy/instruction"},
        graph.environment,
    )


def test_simulator_killed_and_restarted_in_mid_episode(tiny_policy_folder: Path, tmp_path: Path) -> None:
    commands: list[tuple[float, float]] = []  # wall time, speed
    statuses: list[DiagnosticStatus] = []

    with Graph("observer", int(os.environ["ROS_DOMAIN_ID"])) as graph:

        def take_command(message: TwistStamped) -> None:
            linear = message.twist.linear
            commands.append((time.monotonic(), float(np.linalg.norm([linear.x, linear.y, linear.z]))))

        def take_diagnostics(message: DiagnosticArray) -> None:
            statuses.extend(message.status)

        def wait(done: Callable[[], Any], seconds: float, what: str) -> None:
            until = time.monotonic() + seconds
            while not done():
                graph.spin_once(0.02)
                policy.check()
                assert time.monotonic() < until, f"{what}: not within {seconds} s; {statuses[-1:]}\n{policy.tail()}"

        graph.node.create_subscription(TwistStamped, "/policy/command/twist", take_command, 10)
        graph.node.create_subscription(DiagnosticArray, "/diagnostics", take_diagnostics, 10)
        options = DemoOptions(out=tmp_path, policy=tiny_policy_folder)
        policy = start_policy(options, graph)
        simulator = start_simulator(graph, tmp_path)
        try:
            wait(lambda: sum(speed > 0 for _, speed in commands) > 20, 60.0, "the arm moves")

            simulator.process.kill()
            killed_at = time.monotonic()
            wait(lambda: commands[-1][1] == 0, AGE_LIMIT_S + SLACK_S, "a safe command")
            statuses.clear()
            wait(
                lambda: statuses and statuses[-1].level == DiagnosticStatus.ERROR
                and "/simulator/image" in statuses[-1].message,
                5.0,
                "an error that names the stream",
            )  # fmt: skip
            late = [speed for at, speed in commands if at > killed_at + AGE_LIMIT_S + SLACK_S]
            assert not any(late), "the arm was told to move although nothing is seen"

            commands.clear()
            simulator = start_simulator(graph, tmp_path)  # its time begins anew
            wait(lambda: sum(speed > 0 for _, speed in commands) > 20, 60.0, "the arm moves again")
            statuses.clear()
            # Not OK yet: the publisher that was killed counts as a second one until its lease ends (20 s).
            wait(lambda: statuses and statuses[-1].level != DiagnosticStatus.ERROR, 10.0, "no error is left")
        finally:
            end_all([simulator, policy])
    assert policy.process.returncode == 0
