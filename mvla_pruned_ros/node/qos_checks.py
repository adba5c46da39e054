"""What is wrong between the policy node's topics and their other ends: QoS that does not match, two senders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo


def link_problems(node: Node, inputs: Sequence[str], outputs: Sequence[Any]) -> list[str]:
    """One line for each problem; none when all is well.

    DDS connects nothing when QoS does not match and says so once, in the log, if at all.

    Args:
        inputs: names of the topics that are subscribed to. outputs: publishers of commands.
    """
    problems = []
    for topic in inputs:
        senders = node.get_publishers_info_by_topic(topic)
        if len(senders) > 1:
            problems.append(f"{len(senders)} publishers on {topic}")
        for ours in _of(node, node.get_subscriptions_info_by_topic(topic)):
            problems += _mismatches(senders, [ours], topic)
    for publisher in outputs:
        listeners = node.get_subscriptions_info_by_topic(publisher.topic_name)
        ours_of_topic = _of(node, node.get_publishers_info_by_topic(publisher.topic_name))
        problems += _mismatches(ours_of_topic, listeners, publisher.topic_name)
    return problems


def _of(node: Node, ends: Sequence[TopicEndpointInfo]) -> list[TopicEndpointInfo]:
    name = (node.get_name(), node.get_namespace())
    return [end for end in ends if (end.node_name, end.node_namespace) == name]


def _mismatches(senders: Sequence[TopicEndpointInfo], listeners: Sequence[TopicEndpointInfo], topic: str) -> list[str]:
    problems = []
    for sender in senders:
        for listener in listeners:
            verdict, reason = qos_check_compatible(sender.qos_profile, listener.qos_profile)
            if verdict == QoSCompatibility.ERROR:
                problems.append(
                    f"incompatible QoS on {topic}: publisher of {sender.node_name}, subscription of "
                    f"{listener.node_name}: {reason.strip(' ;').removeprefix('ERROR: ')}"
                )
    return problems
