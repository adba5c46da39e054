"""A policy node's commands, calls and diagnostics as the rigs hear them, and figures of its calls."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from std_msgs.msg import String

from ..messages.decode import stamp_ns


@dataclass(frozen=True)
class Command:
    """A velocity command.

    Attributes:
        stamp_ns: when the node sent it. delay_ms: until it was received. velocity: (3,) m/s.
    """

    stamp_ns: int
    delay_ms: float
    velocity: np.ndarray


class PolicyListener:
    """Remembers what the node ``policy`` publishes.

    Attributes:
        commands, calls: in order of arrival; a call is a message of ``~/pruning``.
        diagnostics: the newest status by its name.
    """

    def __init__(self, node: Node, command_depth: int = 100) -> None:
        """Args: command_depth: commands that wait in the queue before the oldest is dropped."""
        self.commands: list[Command] = []
        self.calls: list[dict[str, Any]] = []
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        node.create_subscription(TwistStamped, "/policy/command/twist", self._take_command, command_depth)
        node.create_subscription(String, "/policy/pruning", lambda m: self.calls.append(json.loads(m.data)), 100)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, 10)

    def clear(self) -> None:
        """Forget all commands and calls."""
        self.commands.clear()
        self.calls.clear()

    def _take_command(self, message: TwistStamped) -> None:
        now, sent, linear = time.time_ns(), stamp_ns(message.header), message.twist.linear
        self.commands.append(Command(sent, (now - sent) / 1e6, np.array([linear.x, linear.y, linear.z])))

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics |= {status.name: status for status in message.status}


def kept_of(call: dict[str, Any]) -> int:
    """Visual tokens that stayed, of a ``~/pruning`` message."""
    return int(call["image_kept"] + call["points_kept"])


def tokens_of(call: dict[str, Any]) -> int:
    """Visual tokens before pruning."""
    return int(call["image_in"] + call["points_in"])


def keep_ratio_of(calls: Sequence[dict[str, Any]]) -> float | None:
    """Share of the visual tokens that stayed over all calls, None without calls."""
    return round(sum(map(kept_of, calls)) / sum(map(tokens_of, calls)), 4) if calls else None


def median_of(calls: Sequence[dict[str, Any]], name: str) -> float | None:
    """Median of an entry over the calls that have it, None where none has."""
    values = [call[name] for call in calls if call.get(name) is not None]
    return round(float(np.median(values)), 3) if values else None
