"""What lies around the policy call: the arithmetic, and one short run over DDS."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="no ROS here: transport needs a graph")

from mvla_pruned_ros.rigs.latency import measure_sensor_to_command, summarise
from mvla_pruned_ros.rigs.listener import Command


def test_outside_is_what_neither_policy_nor_waiting_took() -> None:
    calls = [
        {"stamp_ns": i * 10**8, "age_ms": 30.0 + i, "policy_ms": 20.0, "waited_ms": 2.0, "frames_received": 7 + 3 * i}
        for i in range(3)
    ]
    # The first command after each chunk counts; those sent before it belong to the chunk before.
    sent = [(10**6, 90.0), (40 * 10**6, 0.5), (50 * 10**6, 90.0), (135 * 10**6, 0.7), (240 * 10**6, 0.9)]
    figures = summarise(calls, [Command(stamp, delay, np.zeros(3)) for stamp, delay in sent])
    assert figures["outside_ms_p50"] == pytest.approx(9.0 + 0.7)
    assert figures["to_robot_ms_p50"] == pytest.approx(0.7)
    assert (figures["calls"], figures["frames"]) == (3, 7)


def test_camera_policy_and_commands_over_dds() -> None:
    figures = measure_sensor_to_command(seconds=5.0)
    # A call's count of frames is read when it ends: the next frame may be among them.
    assert figures["calls"] >= 30 and figures["frames"] >= figures["calls"] - 1
    assert 0 < figures["to_policy_ms_p50"] < figures["outside_ms_p50"] + 1 and figures["to_robot_ms_p50"] > 0
