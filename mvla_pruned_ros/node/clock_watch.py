"""Notices that time jumped, simulated or not, so that the episode is forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node

from .parameters import Settings


class ClockWatch:
    """Calls a function when the node's clock jumped."""

    def __init__(self, node: Node, settings: Callable[[], Settings], jumped: Callable[[], None]) -> None:
        """Args: settings: newest snapshot. jumped: forgets the episode."""
        self._node, self._settings, self._jumped = node, settings, jumped
        self._offset_ns: int | None = None  # node clock minus steady clock at the last look
        threshold = JumpThreshold(
            min_forward=Duration(nanoseconds=round(settings()["max_clock_jump_ms"] * 1e6)),
            min_backward=Duration(nanoseconds=-1),
            on_clock_change=True,
        )
        # Kept, or the callback is dropped with its handle.
        self._handle = node.get_clock().create_jump_callback(threshold, post_callback=self._clock_jumped)

    def check_clock_step(self) -> None:
        """A system clock that was set is a jump too; rclpy only reports jumps of simulated time."""
        if self._node.get_parameter("use_sim_time").value:
            return
        offset_ns = self._node.get_clock().now().nanoseconds - time.monotonic_ns()
        limit_ns = self._settings()["max_clock_jump_ms"] * 1e6
        if self._offset_ns is not None and abs(offset_ns - self._offset_ns) > limit_ns:
            self._node.get_logger().warning("the system clock was set: episode forgotten")
            self._jumped()
        self._offset_ns = offset_ns

    def _clock_jumped(self, jump: TimeJump) -> None:
        self._node.get_logger().warning("the clock jumped: episode forgotten")
        self._jumped()
