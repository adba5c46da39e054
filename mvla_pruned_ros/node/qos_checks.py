"""What is wrong between the policy node's topics and their other ends: QoS that does not match, two senders, rivals."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from .ros_releases import PublisherEventCallbacks, SubscriptionEventCallbacks

CLAIM = "command/claim"  # below a policy node's name: nothing is sent there, its publisher says that the node is active


class QuietLinks:
    """Goes before ``Node`` among the bases of a node, which then has no warnings of rclpy of QoS that does not match.

    Each is an object of its own for each topic, which the executor takes up at every message: a quarter of its time.
    ``link_problems`` says the same.
    """

    def create_publisher(self, *args: Any, **options: Any) -> Any:
        """As rclpy's."""
        options.setdefault("event_callbacks", PublisherEventCallbacks(use_default_callbacks=False))
        return super().create_publisher(*args, **options)  # type: ignore[misc]

    def create_subscription(self, *args: Any, **options: Any) -> Any:
        """As rclpy's."""
        options.setdefault("event_callbacks", SubscriptionEventCallbacks(use_default_callbacks=False))
        return super().create_subscription(*args, **options)  # type: ignore[misc]


def link_problems(node: Node, inputs: Sequence[str], outputs: Sequence[Any], shared: Collection[str] = ()) -> list[str]:
    """One line for each problem; none when all is well.

    DDS connects nothing when QoS does not match and says so once, in the log, if at all.

    Args:
        inputs: names of the topics that are subscribed to. outputs: publishers of commands. shared: inputs that may
            have several publishers, as joint states of arm and gripper.
    """
    problems = []
    for topic in inputs:
        senders = node.get_publishers_info_by_topic(topic)
        if len(senders) > 1 and topic not in shared:
            problems.append(f"{len(senders)} publishers on {topic}")
        ours = _of(node, node.get_subscriptions_info_by_topic(topic))
        for sender in senders:
            # A topic may be subscribed to in two ways: one of them has to fit.
            found = [_mismatch(sender, listener, topic) for listener in ours]
            if found and all(found):
                problems.append(found[0])
    for publisher in outputs:
        topic = publisher.topic_name
        for sender in _of(node, node.get_publishers_info_by_topic(topic)):
            found = [_mismatch(sender, listener, topic) for listener in node.get_subscriptions_info_by_topic(topic)]
            problems += filter(None, found)
    return problems


def rivals(node: Node, command_topic: str, own_claims: int = 1) -> list[str]:
    """Other active policy nodes on this node's command topic, by their full names; this node's own name among them
    where another has it, too.

    An active policy node has a publisher of ``CLAIM``; what else may publish commands, as a joystick does, has none.

    Args:
        own_claims: publishers of ``CLAIM`` that the node itself has.
    """
    own = node.get_fully_qualified_name()
    ends = node.get_publishers_info_by_topic(command_topic)
    names = {f"{end.node_namespace.rstrip('/')}/{end.node_name}" for end in ends}
    return sorted(name for name in names if node.count_publishers(f"{name}/{CLAIM}") > own_claims * (name == own))


def _of(node: Node, ends: Sequence[TopicEndpointInfo]) -> list[TopicEndpointInfo]:
    name = (node.get_name(), node.get_namespace())
    return [end for end in ends if (end.node_name, end.node_namespace) == name]


def deaf_listeners(node: Node, topic: str, kind: str, qos: QoSProfile) -> str:
    """Why a publisher, with a profile of its own, would reach nobody; empty when it reaches one, or nobody listens.

    Args:
        kind: type of its messages, ``package/msg/Name``.
    """
    listeners = [end for end in node.get_subscriptions_info_by_topic(topic) if end.topic_type == kind]
    # Of the graph's profiles only these two are compared: the others have no defaults in a profile of one's own.
    asked = [QoSProfile(depth=1, reliability=e.qos_profile.reliability, durability=e.qos_profile.durability)
             for e in listeners]  # fmt: skip
    reasons = [_reason(qos, profile) for profile in asked]
    if not reasons or not all(reasons):
        return ""
    return f"incompatible QoS on {topic}: subscription of {listeners[0].node_name}: {reasons[0]}"


def _mismatch(sender: TopicEndpointInfo, listener: TopicEndpointInfo, topic: str) -> str:
    """What does not match; empty when the two can be connected."""
    reason = _reason(sender.qos_profile, listener.qos_profile)
    if not reason:
        return ""
    return (
        f"incompatible QoS on {topic}: publisher of {sender.node_name}, subscription of {listener.node_name}: {reason}"
    )


def _reason(sender: QoSProfile, listener: QoSProfile) -> str:
    verdict, reason = qos_check_compatible(sender, listener)
    return reason.strip(" ;").removeprefix("ERROR: ") if verdict == QoSCompatibility.ERROR else ""
