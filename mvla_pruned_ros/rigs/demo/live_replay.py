"""``mvla replay --live``: a recorded bag played into a policy node, and what came out of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rich.console import Console

from ...bags.reader import Bag
from ...configuration.files import write_json
from ...node.diagnostics import LEVEL_NAMES
from ...node.ros_messages import message_class
from ...reports.terminal import ProgressBar, table
from ...sim.bag_wiring import recorded_wiring
from ...sim.wiring import Wiring
from ..child_process import ChildFailedError, ChildNode
from ..graph import Graph
from ..listener import PolicyListener, keep_ratio_of, median_of
from .session import DemoOptions, sensor_remaps, start_policy

INSTRUCTION = "/policy/instruction"
REQUIRED = ("/clock", INSTRUCTION, *(f"/simulator/{name}" for name in ("image", "camera_info", "ee_pose", "gripper")))
READY_TIMEOUT_S = 120.0
AFTER_S = 1.5  # wall time to wait for what is still on its way, a period of diagnostics among it


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
        with Graph("replay", options.domain_id) as graph:
            wiring = recorded_wiring(folder)
            policy_node = start_policy(options, graph, wiring)
            listener = PolicyListener(graph.node)
            published = _play(bag, graph, policy_node, wiring, rate, console)
            playing = dict(listener.diagnostics)  # afterwards the node misses its sensors, and rightly says so
            graph.spin_for(AFTER_S)
    report = _report(folder, options, rate, published, listener, playing)
    path = options.out / "report.json"
    write_json(path, report, indent=2)
    _print(report, console)
    console.print(f"wrote {path}")
    if not listener.commands:
        raise ChildFailedError(f"no command came out; the policy node said last:\n{policy_node.tail()}")
    return 0


def _play(
    bag: Bag, graph: Graph, policy_node: ChildNode, wiring: Wiring, rate: float, console: Console
) -> dict[str, int]:
    """Publish the bag's inputs at their times; returns how many, by topic."""
    topics = sorted({"/clock", INSTRUCTION, *sensor_remaps(wiring).values()} & set(bag.types))
    publishers = {}
    for topic in topics:
        sensor = topic.startswith("/simulator/")
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT if sensor else ReliabilityPolicy.RELIABLE)
        publishers[topic] = graph.node.create_publisher(message_class(bag.types[topic]), topic, qos)
    with console.status("starting the policy node ..."):
        heard = graph.spin_until(
            lambda: all(publishers[topic].get_subscription_count() for topic in REQUIRED), READY_TIMEOUT_S
        )
    if not heard:
        raise ChildFailedError(
            f"the policy node did not subscribe within {READY_TIMEOUT_S:.0f} s:\n{policy_node.tail()}"
        )
    counts = dict.fromkeys(topics, 0)
    with ProgressBar("replaying", bag.duration_s, counted=False, console=console, transient=True) as bar:
        start = time.monotonic()
        for message in bag.messages(set(topics)):
            due = start + message.offset_ns / 1e9 / rate
            while (wait := due - time.monotonic()) > 0:
                graph.spin_once(min(wait, 0.02))
            graph.spin_once(0)
            publishers[message.topic].publish(message.data)
            counts[message.topic] += 1
            policy_node.check()
            bar.show(message.offset_ns / 1e9)
    return counts


def _report(
    folder: Path, options: DemoOptions, rate: float, published: dict[str, int], listener: PolicyListener,
    playing: dict[str, DiagnosticStatus],
) -> dict[str, Any]:  # fmt: skip
    """playing: the last diagnostics that were heard while the bag played: what they said then, counts of the end."""
    calls = listener.calls
    speeds = [float(np.linalg.norm(command.velocity)) for command in listener.commands]
    return {
        "bag": str(folder),
        "rate": rate,
        "method": options.method,
        "keep_ratio_asked": options.keep_ratio,
        "keep_ratio": keep_ratio_of(calls),
        "frames_sent": published["/simulator/image"],
        "frames_received": max((int(call["frames_received"]) for call in calls), default=0),
        "inferences": len(calls),
        "policy_ms_p50": median_of(calls, "policy_ms"),
        "commands": len(speeds),
        "commands_moving": sum(speed > 0 for speed in speeds),
        "speed_mean_m_s": round(float(np.mean(speeds)), 4) if speeds else None,
        "diagnostics": {
            name: {
                "level": LEVEL_NAMES[playing.get(name, status).level],
                "message": playing.get(name, status).message,
                **{v.key: v.value for v in status.values},
            }
            for name, status in listener.diagnostics.items()
        },
    }


def _print(report: dict[str, Any], console: Console) -> None:
    hidden = ("bag", "rate", "diagnostics")
    rows = [(name.replace("_", " "), str(value)) for name, value in report.items() if name not in hidden]
    rows += [(name, f"{status['level']} {status['message']}") for name, status in report["diagnostics"].items()]
    console.print(table(f"{report['bag']} at {report['rate']:g} x", ("", ""), rows, left=2, show_header=False))
