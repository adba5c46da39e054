"""Where releases of rclpy differ; everything else calls what Jazzy and later have.

The rclpy of Humble (3.3) has no parameter callback but the one that accepts or refuses, events under another name, and
no count of a subscription's publishers. What is here for it follows its sources and is tested by taking these calls
away; it was not run on Humble.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ModuleNotFoundError:
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

__all__ = ["ParameterCallbacks", "PublisherEventCallbacks", "SubscriptionEventCallbacks", "publisher_count"]

if hasattr(Node, "add_post_set_parameters_callback"):

    class ParameterCallbacks:
        """Goes before ``Node`` among the bases of a node, which then has callbacks before and after parameters are set.

        This rclpy has them.
        """

else:

    class ParameterCallbacks:  # type: ignore[no-redef]
        """Goes before ``Node`` among the bases of a node, which then has callbacks before and after parameters are set.

        They surround ``set_parameters_atomically``, which the parameter services call as well. What is declared passes
        by them.
        """

        def __init__(self, *args: Any, **options: Any) -> None:
            self._before_set: list[Callable[[Sequence[Parameter]], Sequence[Parameter]]] = []
            self._once_set: list[Callable[[Sequence[Parameter]], None]] = []
            super().__init__(*args, **options)

        def add_pre_set_parameters_callback(
            self, callback: Callable[[Sequence[Parameter]], Sequence[Parameter]]
        ) -> None:
            """Args: callback: given what is to be set, returns what is set in its place."""
            self._before_set.insert(0, callback)

        def add_post_set_parameters_callback(self, callback: Callable[[Sequence[Parameter]], None]) -> None:
            """Args: callback: given what was accepted, as a whole, and set."""
            self._once_set.insert(0, callback)

        def set_parameters(self, parameters: Sequence[Parameter]) -> list[SetParametersResult]:
            """One after the other."""
            return [self.set_parameters_atomically([parameter]) for parameter in parameters]

        def set_parameters_atomically(self, parameters: Sequence[Parameter]) -> SetParametersResult:
            """All or none."""
            if self._before_set:  # their lists are joined, as later releases do
                parameters = [changed for callback in self._before_set for changed in callback(parameters)]
            result = super().set_parameters_atomically(parameters)  # type: ignore[misc]
            if result.successful:
                for callback in self._once_set:
                    callback(parameters)
            return result


def publisher_count(node: Node, subscription: Any) -> int:
    """Publishers connected to a subscription; in Humble, those that the graph has on its topic."""
    if hasattr(subscription, "get_publisher_count"):
        return subscription.get_publisher_count()
    return node.count_publishers(subscription.topic_name)
