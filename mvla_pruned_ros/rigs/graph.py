"""A ROS graph that only this computer sees, with a node of ours and child processes in it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from ..node.environment import prepare_environment
from .child_process import ChildNode, end_all

PACKAGE = __package__.split(".")[0]


class Graph(AbstractContextManager["Graph"]):
    """A node in a ROS graph that only this computer sees. Use as a context manager.

    Attributes:
        node: served by the methods that spin.
        environment: for child processes, so that they join the same graph.
        children: processes started by ``start``; they end with the graph.
    """

    def __init__(self, name: str, domain_id: int | None = None) -> None:
        """Args: name: of the node. domain_id: None takes one that another run here is unlikely to have."""
        domain = 1 + os.getpid() % 100 if domain_id is None else domain_id
        # rclpy reads the range from our own environment too.
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        prepare_environment()
        self.environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
        self._context = Context()
        rclpy.init(args=[], context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node(name, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.children: list[ChildNode] = []

    def start(
        self, name: str, module: str, log: Path, parameters: Mapping[str, Any], remaps: Mapping[str, str] | None = None
    ) -> ChildNode:
        """Start a child process. module: of this package. For the others see ``ChildNode``."""
        child = ChildNode(name, f"{PACKAGE}.{module}", log, parameters, remaps or {}, self.environment)
        self.children.append(child)
        return child

    def spin_once(self, timeout_s: float) -> None:
        """Serve one callback, waiting for it at most so long."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def spin_until(self, done: Callable[[], object], timeout_s: float) -> bool:
        """Serve callbacks until ``done()``; False when that takes longer than ``timeout_s``.

        Raises:
            ChildFailedError: one of the children ended.
        """
        until = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > until:
                return False
            self.spin_once(0.02)
            for child in self.children:
                child.check()
        return True

    def spin_for(self, seconds: float) -> None:
        """Serve callbacks for a while; raises as ``spin_until`` does."""
        self.spin_until(lambda: False, seconds)

    def __exit__(self, *error: object) -> None:
        end_all(self.children)
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)
