"""``mvla replay --live``: a recorded bag played into a policy node, and what came out of it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from std_msgs.msg import String

from ...bags.reader import Bag
from ...node.ros_messages import message_class
from ..child_process import ChildFailedError, ChildNode, end_all
from ..graph import Graph
from .session import SENSOR_REMAPS, DemoOptions, start_policy

INSTRUCTION = "/policy/instruction"
INPUTS = {"/clock", INSTRUCTION, *SENSOR_REMAPS.values()}
REQUIRED = (
    "/clock",
    INSTRUCTION,
    "/simulator/image",
    "/simulator/camera_info",
    "/simulator/ee_pose",
    "/simulator/gripper",
)
READY_TIMEOUT_S = 120.0
AFTER_S = 1.5  # wall time to wait for what is still on its way, a period of diagnostics among it


class _Listener:
    """Collects what the policy node says."""

    def __init__(self, node: Node) -> None:
        self.commands: list[np.ndarray] = []
        self.pruning: list[dict[str, Any]] = []
        self.diagnostics: dict[str, dict[str, str]] = {}
        node.create_subscription(TwistStamped, "/policy/command/twist", self._take_command, 100)
        node.create_subscription(String, "/policy/pruning", lambda m: self.pruning.append(json.loads(m.data)), 100)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, 10)

    def _take_command(self, message: TwistStamped) -> None:
        linear = message.twist.linear
        self.commands.append(np.array([linear.x, linear.y, linear.z]))

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            level = {0: "OK", 1: "WARN", 2: "ERROR", 3: "STALE"}[int.from_bytes(status.level, "little")]
            self.diagnostics[status.name] = {
                "level": level, "message": status.message, **{v.key: v.value for v in status.values}
            }  # fmt: skip


def run_replay(folder: Path, options: DemoOptions, rate: float = 1.0, console: Console | None = None) -> int:
    """Play, print, write ``options.out / report.json``; returns the exit code.

    Raises:
        ValueError: no bag there, one without the topics of ``mvla record``, or a rate that is not positive.
    """
    if not rate > 0:
        raise ValueError(f"rate must be positive, got {rate}")
    console = console or Console()
    with Bag(folder) as bag:
        missing = [topic for topic in REQUIRED if topic not in bag.types]
        if missing:
            raise ValueError(f"{folder} has no {', '.join(missing)}; it has {', '.join(sorted(bag.types))}")
        options.out.mkdir(parents=True, exist_ok=True)
        children: list[ChildNode] = []
        try:
            with Graph("replay", options.domain_id) as graph:
                try:
                    children.append(start_policy(options, graph.environment, SENSOR_REMAPS))
                    listener = _Listener(graph.node)
                    published = _play(bag, graph, children[0], rate, console)
                    _spin(graph, children[0], AFTER_S)
                finally:
                    end_all(children)
        except (ChildFailedError, TimeoutError) as error:
            print(f"mvla replay: error: {error}", file=sys.stderr)
            return 1
    report = _report(folder, options, rate, published, listener)
    path = options.out / "report.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    _print(report, console)
    console.print(f"wrote {path}")
    if not listener.commands:
        print(
            f"mvla replay: error: no command came out; the policy node said last:\n{children[0].tail()}",
            file=sys.stderr,
        )
        return 1
    return 0


def _spin(graph: Graph, child: ChildNode, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        graph.spin_once(0.02)
        child.check()


def _play(bag: Bag, graph: Graph, child: ChildNode, rate: float, console: Console) -> dict[str, int]:
    """Publish the bag's inputs at their times; returns how many, by topic."""
    topics = sorted(INPUTS & set(bag.types))
    publishers = {}
    for topic in topics:
        sensor = topic.startswith("/simulator/")
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT if sensor else ReliabilityPolicy.RELIABLE)
        publishers[topic] = graph.node.create_publisher(message_class(bag.types[topic]), topic, qos)
    with console.status("starting the policy node ..."):
        until = time.monotonic() + READY_TIMEOUT_S
        while any(publishers[topic].get_subscription_count() == 0 for topic in REQUIRED):
            _spin(graph, child, 0.05)
            if time.monotonic() > until:
                raise TimeoutError(f"the policy node did not subscribe within {READY_TIMEOUT_S:.0f} s:\n{child.tail()}")
    counts = dict.fromkeys(topics, 0)
    columns = (TextColumn("replaying"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=bag.duration_s)
        start = time.monotonic()
        for message in bag.messages(set(topics)):
            due = start + message.offset_ns / 1e9 / rate
            while (wait := due - time.monotonic()) > 0:
                graph.spin_once(min(wait, 0.02))
            graph.spin_once(0)
            publishers[message.topic].publish(message.data)
            counts[message.topic] += 1
            child.check()
            progress.update(bar, completed=message.offset_ns / 1e9)
    return counts


def _report(
    folder: Path, options: DemoOptions, rate: float, published: dict[str, int], listener: _Listener
) -> dict[str, Any]:
    inferences = listener.pruning
    kept = sum(one["image_kept"] + one["points_kept"] for one in inferences)
    tokens = sum(one["image_in"] + one["points_in"] for one in inferences)
    speeds = [float(np.linalg.norm(command)) for command in listener.commands]
    return {
        "bag": str(folder),
        "rate": rate,
        "method": options.method,
        "keep_ratio_asked": options.keep_ratio,
        "keep_ratio": round(kept / tokens, 4) if tokens else None,
        "frames_sent": published["/simulator/image"],
        "frames_received": max((int(one["frames_received"]) for one in inferences), default=0),
        "inferences": len(inferences),
        "policy_ms_p50": round(float(np.median([one["policy_ms"] for one in inferences])), 3) if inferences else None,
        "commands": len(speeds),
        "commands_moving": sum(speed > 0 for speed in speeds),
        "speed_mean_m_s": round(float(np.mean(speeds)), 4) if speeds else None,
        "diagnostics": listener.diagnostics,
    }


def _print(report: dict[str, Any], console: Console) -> None:
    table = Table(title=f"{report['bag']} at {report['rate']:g} x", title_justify="left", show_header=False)
    for name, value in report.items():
        if name not in ("bag", "rate", "diagnostics"):
            table.add_row(name.replace("_", " "), str(value))
    for name, status in report["diagnostics"].items():
        table.add_row(name, f"{status['level']} {status['message']}")
    console.print(table)
