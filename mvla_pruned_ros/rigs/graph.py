"""A ROS graph that only this computer sees, for a node of ours and its child processes."""

from __future__ import annotations

import os

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from ..node.environment import prepare_environment


class Graph:
    """A node in a ROS graph that only this computer sees, and what puts children into the same graph.

    Attributes:
        node: served by ``spin_once``.
        environment: for child processes.
    """

    def __init__(self, name: str, domain_id: int | None) -> None:
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

    def spin_once(self, timeout_s: float) -> None:
        """Serve one callback, waiting for it at most so long."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)
