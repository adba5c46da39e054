"""What is wrong between the policy node's topics and their other ends: QoS that does not match, two senders, rivals."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

CLAIM = "command/claim"  # below a policy node's name: nothing is sent there, its publisher says that the node is active


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


def _mismatch(sender: TopicEndpointInfo, listener: TopicEndpointInfo, topic: str) -> str:
    """What does not match; empty when the two can be connected."""
    verdict, reason = qos_check_compatible(sender.qos_profile, listener.qos_profile)
    if verdict != QoSCompatibility.ERROR:
        return ""
    return (
        f"incompatible QoS on {topic}: publisher of {sender.node_name}, subscription of {listener.node_name}: "
        f"{reason.strip(' ;').removeprefix('ERROR: ')}"
    )
