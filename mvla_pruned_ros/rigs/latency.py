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
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from . import whole_arm
from .graph import Graph
from .listener import Command, PolicyListener
from .synthetic_robot import CAMERA_HZ, EXTRINSICS, HEIGHT, WIDTH
from .whole_arm_policy import save_whole_arm_policy

READY_TIMEOUT_S = 120.0
INSTRUCTION = "push the puck to the goal"
WARM_UP_S = 3.0  # not counted: discovery, first calls, clock frequency
LEAST_CALLS = 30


def measure_sensor_to_command(
    seconds: float, policy: str = "small", device: str = "cpu", two_cameras: bool = False
) -> dict[str, Any]:
    """Run camera, policy node and listener, each in a process of its own, for a while.

    Args:
        seconds: of measurement, after a warm-up. policy, device: parameters of the node.
        two_cameras: of the robot of ``whole_arm``, one on the hand, with a policy of random weights in place of
            ``policy``; else one camera that stands still.

    Returns:
        Milliseconds outside the policy call (p50, p99), its parts, calls and frames.

    Raises:
        ChildFailedError: a node ended. TimeoutError: the policy node made no call, or too few.
    """
    with tempfile.TemporaryDirectory() as folder, Graph("listener") as graph:
        if two_cameras:
            policy = str(save_whole_arm_policy(Path(folder) / "policy", INSTRUCTION))
        robot = whole_arm.PARAMETERS if two_cameras else EXTRINSICS
        # There is no other policy node, so that none need be looked for before the arm moves.
        parameters = {**robot, "policy": policy, "device": device, "instruction": INSTRUCTION, "discovery_wait_ms": 0.0}
        listener = PolicyListener(graph.node, command_depth=1)
        node = graph.start("policy node", "node.executable", Path(folder) / "policy_node.log", parameters)
        streams = {"streams": "whole_arm"} if two_cameras else {}
        graph.start("camera", "rigs.synthetic_robot", Path(folder) / "camera.log", streams)
        if not graph.spin_until(lambda: listener.calls, READY_TIMEOUT_S):
            raise TimeoutError(f"no policy call in {READY_TIMEOUT_S:g} s; the policy node said:\n{node.tail()}")
        graph.spin_for(WARM_UP_S)
        listener.clear()
        graph.spin_for(seconds)
        log = node.tail()
    if len(listener.calls) < LEAST_CALLS:
        raise TimeoutError(
            f"{len(listener.calls)} policy calls in {seconds:g} s, need {LEAST_CALLS}: measure for longer, or see what "
            f"the node said:\n{log}"
        )
    figures = {**summarise(listener.calls, listener.commands), "seconds": seconds}
    return figures | ({"image": f"twice {figures['image']}, one camera on the hand"} if two_cameras else {})


def summarise(calls: list[dict[str, Any]], commands: list[Command]) -> dict[str, Any]:
    """Figures of a run.

    Args:
        calls, commands: of ``PolicyListener``.
    """
    stamps = [command.stamp_ns for command in commands]
    inputs, answers = [], []
    for call in calls:
        next_command = bisect.bisect_left(stamps, call["stamp_ns"] + call["age_ms"] * 1e6)
        if next_command < len(commands):
            inputs.append(call["age_ms"] - call["policy_ms"] - call["waited_ms"])
            answers.append(commands[next_command].delay_ms)
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
