"""Images of 640 x 480 at 30 Hz arrive with the packaged Fast DDS profile; without it, diagnostics name the remedy."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")

from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import String

from mvla_pruned_ros.node.environment import PROFILE_VARIABLES
from mvla_pruned_ros.rigs.child_process import ChildNode, end_all
from mvla_pruned_ros.rigs.graph import Graph
from mvla_pruned_ros.rigs.synthetic_robot import CAMERA_HZ, EXTRINSICS

SECONDS = 5.0


class Run:
    """A synthetic robot, a policy node, and what that says of the images it got."""

    def __init__(self, folder: Path, policy: Path, profile: bool, told: str = "") -> None:
        """told: what the diagnostics are waited for to say, for a while, after the images were counted."""
        self.frames = 0
        self.message, self.messages = "", set[str]()
        with Graph("listener", 1 + (int(os.environ["ROS_DOMAIN_ID"]) + 3) % 100) as graph:
            robot = dict(graph.environment)
            if not profile:  # as a camera driver that nobody told; variables that are set but name nothing are left
                robot |= dict.fromkeys(PROFILE_VARIABLES, str(folder / "absent.xml"))
            graph.node.create_subscription(String, "/policy/pruning", self._called, 50)
            graph.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 10)
            parameters = {**EXTRINSICS, "policy": str(policy), "instruction": "push the puck to the goal"}
            children = [
                ChildNode("robot", "mvla_pruned_ros.rigs.synthetic_robot", folder / "robot.log", {}, {}, robot),
                ChildNode("policy", "mvla_pruned_ros.node.executable", folder / "policy.log", parameters, {},
                          graph.environment),
            ]  # fmt: skip
            try:
                self._wait(graph, children, 60.0, lambda: self.frames > 10 or "no frame arrives" in self.message)
                first, start = self.frames, time.monotonic()
                self._wait(graph, children, SECONDS, lambda: False)
                self.share = (self.frames - first) / (CAMERA_HZ * (time.monotonic() - start))
                self._wait(graph, children, 20.0, lambda: any(told in message for message in self.messages))
            finally:
                end_all(children)

    def _wait(self, graph: Graph, children: list[ChildNode], seconds: float, done: Any) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not done():
            graph.spin_once(0.02)
            for child in children:
                child.check()

    def _called(self, message: String) -> None:
        self.frames = max(self.frames, json.loads(message.data)["frames_received"])

    def _diagnosed(self, message: DiagnosticArray) -> None:
        self.message = message.status[0].message
        self.messages.add(self.message)
        values = {v.key: v.value for v in message.status[0].values}
        self.frames = max(self.frames, int(values.get("frames_received", 0)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("images")


def test_images_arrive_with_the_profile(folder: Path, tiny_policy_folder: Path) -> None:
    run = Run(folder, tiny_policy_folder, profile=True)
    # 99 % on a machine that does nothing else; a busy one delays the counters of the last frames.
    assert run.share > 0.9, (run.share, run.message)


def test_without_the_profile_diagnostics_name_the_remedy(folder: Path, tiny_policy_folder: Path) -> None:
    run = Run(folder, tiny_policy_folder, profile=False, told=PROFILE_VARIABLES[0])
    if run.share > 0.9:
        pytest.skip(f"this middleware delivers {100 * run.share:.0f} % of the images without a profile")
    told = [message for message in run.messages if PROFILE_VARIABLES[0] in message and "node/fastdds.xml" in message]
    assert told, run.messages  # beside the counts, or, where gaps are longer than stale_ms, beside "no data"
