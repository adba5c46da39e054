"""What camera and robot add to a policy call: transport and conversion, measured with real nodes over real DDS.

A made-up camera publishes 640 x 480 colour and depth to a policy node, which answers with commands. For each policy
call

    outside = (chunk in place - stamp of the image) - policy call - wait for the call before
              + (command received - stamp of the command)

An image is stamped right before its messages are published, so that serialising them counts. Of the command the
transport counts and not the wait for the next tick of the command timer.
"""

from __future__ import annotations

import bisect
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import TwistStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from ..messages.decode import stamp_ns
from .child_process import ChildNode, end_all
from .graph import Graph
from .synthetic_robot import CAMERA_HZ, EXTRINSICS, HEIGHT, WIDTH

READY_TIMEOUT_S = 120.0
WARM_UP_S = 3.0  # not counted: discovery, first calls, clock frequency
LEAST_CALLS = 30
COMMAND_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


class _Listener:
    """Remembers what the policy node says, and when."""

    def __init__(self, graph: Graph) -> None:
        self.calls: list[dict[str, Any]] = []
        self.commands: list[tuple[int, float]] = []  # stamp in ns, milliseconds until it was received
        node = graph.node
        node.create_subscription(String, "/policy/pruning", lambda m: self.calls.append(json.loads(m.data)), 50)
        node.create_subscription(TwistStamped, "/policy/command/twist", self._commanded, COMMAND_QOS)

    def _commanded(self, message: TwistStamped) -> None:
        sent = stamp_ns(message.header)
        self.commands.append((sent, (time.time_ns() - sent) / 1e6))


def measure_sensor_to_command(seconds: float, policy: str = "small", device: str = "cpu") -> dict[str, Any]:
    """Run camera, policy node and listener, each in a process of its own, for a while.

    Args:
        seconds: of measurement, after a warm-up. policy, device: parameters of the node.

    Returns:
        Milliseconds outside the policy call (p50, p99), its parts, calls and frames.

    Raises:
        ChildFailedError: a node ended. TimeoutError: the policy node made no call, or too few.
    """
    parameters = {**EXTRINSICS, "policy": policy, "device": device, "instruction": "push the puck to the goal"}
    children: list[ChildNode] = []
    with tempfile.TemporaryDirectory() as folder, Graph("listener", None) as graph:

        def start(name: str, module: str, parameters: dict[str, Any]) -> ChildNode:
            log = Path(folder) / f"{name.replace(' ', '_')}.log"
            children.append(ChildNode(name, module, log, parameters, {}, graph.environment))
            return children[-1]

        def listen(seconds: float, until_called: bool = False) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until and not (until_called and listener.calls):
                graph.spin_once(0.05)
                for child in children:
                    child.check()

        listener = _Listener(graph)
        try:
            node = start("policy node", "mvla_pruned_ros.node.executable", parameters)
            start("camera", "mvla_pruned_ros.rigs.synthetic_robot", {})
            listen(READY_TIMEOUT_S, until_called=True)
            if not listener.calls:
                raise TimeoutError(f"no policy call in {READY_TIMEOUT_S:g} s; the policy node said:\n{node.tail()}")
            listen(WARM_UP_S)
            listener.calls.clear()
            listener.commands.clear()
            listen(seconds)
            said = node.tail()
        finally:
            end_all(children)
    if len(listener.calls) < LEAST_CALLS:
        raise TimeoutError(
            f"{len(listener.calls)} policy calls in {seconds:g} s, need {LEAST_CALLS}: measure for longer, or see what "
            f"the node said:\n{said}"
        )
    return {**summarise(listener.calls, listener.commands), "seconds": seconds}


def summarise(calls: list[dict[str, Any]], commands: list[tuple[int, float]]) -> dict[str, Any]:
    """Figures of a run.

    Args:
        calls: messages of ``~/pruning``. commands: stamp in ns and milliseconds of transport, in order.
    """
    stamps = [stamp for stamp, _ in commands]
    inputs, answers = [], []
    for call in calls:
        next_command = bisect.bisect_left(stamps, call["stamp_ns"] + call["age_ms"] * 1e6)
        if next_command < len(commands):
            inputs.append(call["age_ms"] - call["policy_ms"] - call["waited_ms"])
            answers.append(commands[next_command][1])
    outside = np.array(inputs) + np.array(answers)

    def ms(values: Any, percentile: float) -> float:
        return round(float(np.percentile(values, percentile)), 3)

    return {
        "outside_ms_p50": ms(outside, 50),
        "outside_ms_p99": ms(outside, 99),
        "to_policy_ms_p50": ms(inputs, 50),
        "to_robot_ms_p50": ms(answers, 50),
        "policy_ms_p50": ms([call["policy_ms"] for call in calls], 50),
        "policy_ms_p99": ms([call["policy_ms"] for call in calls], 99),
        "calls": len(outside),
        "frames": calls[-1]["frames_received"] - calls[0]["frames_received"] + 1,
        "camera_hz": CAMERA_HZ,
        "image": f"{WIDTH}x{HEIGHT} rgb8 and 16UC1",
    }
