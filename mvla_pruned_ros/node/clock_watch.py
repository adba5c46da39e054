"""Notices that time jumped, simulated or not, so that the episode is forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.clock import ClockChange, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node

from .parameters import Settings

LARGEST_CORRECTION_MS = 100.0  # at once, of a system clock that a time server keeps


class ClockWatch:
    """Calls a function when the node's clock jumped."""

    def __init__(self, node: Node, settings: Callable[[], Settings], jumped: Callable[[], None]) -> None:
        """Args: settings: newest snapshot. jumped: forgets the episode."""
        self._node, self._settings, self._jumped = node, settings, jumped
        self._offset_ns: int | None = None  # node clock minus steady clock at the last look
        # Any jump of simulated time is reported here: the limit is a live parameter, and this threshold is not.
        threshold = JumpThreshold(
            min_forward=Duration(nanoseconds=1), min_backward=Duration(nanoseconds=-1), on_clock_change=True
        )
        # Kept, or the callback is dropped with its handle.
        self._handle = node.get_clock().create_jump_callback(threshold, post_callback=self._clock_jumped)

    def check_clock_step(self) -> None:
        """A system clock that was set is a jump too; rclpy only reports jumps of simulated time.

        Back, each step counts that is not a correction of the clock: messages of after it are older than those before.
        """
        if self._node.get_parameter("use_sim_time").value:
            return
        offset_ns = self._node.get_clock().now().nanoseconds - time.monotonic_ns()
        before, self._offset_ns = self._offset_ns, offset_ns
        if before is None:
            return
        step_ms = (offset_ns - before) * 1e-6
        if step_ms > self._settings()["max_clock_jump_ms"] or step_ms < -LARGEST_CORRECTION_MS:
            self._forget(f"the system clock was set {'ahead' if step_ms > 0 else 'back'} by {abs(step_ms):.0f} ms")

    def _clock_jumped(self, jump: TimeJump) -> None:
        step_ms = jump.delta.nanoseconds * 1e-6
        if jump.clock_change in (ClockChange.ROS_TIME_ACTIVATED, ClockChange.ROS_TIME_DEACTIVATED):
            self._forget("the clock was changed")
        elif step_ms < 0 or step_ms > self._settings()["max_clock_jump_ms"]:
            self._forget(f"the clock jumped {'ahead' if step_ms > 0 else 'back'} by {abs(step_ms):.0f} ms")

    def _forget(self, reason: str) -> None:
        self._node.get_logger().warning(f"{reason}: episode forgotten")
        self._jumped()
