"""What a node finds on its graph, as plain data for the checks of ``preflight``. Nothing is published or called."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import rclpy
from rclpy.node import Node

from ..preflight.evidence import Arrivals, Endpoint, Stream
from ..preflight.graph_checks import CommandTopic, Graph
from ..preflight.topic_names import alternatives
from .command_publisher import COMMAND_QOS, MESSAGES
from .environment import middleware_problems
from .parameters import Settings
from .qos_checks import deaf_listeners, link_problems, rivals

MOST = 3  # topics that are named in place of one that nobody listens on
GRIPPER = "std_msgs/msg/Float64"
OF_STAMPS = ("zero stamp", "stamp in the future", "stale", "duplicate", "out of order")  # causes of the synchronizer


def graph_of(node: Node, lost_images: str) -> Graph:
    """Nodes, clock and middleware. Args: lost_images: of ``diagnostics``."""
    own = node.get_fully_qualified_name()
    names = [f"{space.rstrip('/')}/{name}" for name, space in node.get_node_names_and_namespaces()]
    if own in names:
        names.remove(own)  # once: a policy node may run under the same name
    implementation = rclpy.get_rmw_implementation_identifier()
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") or "SUBNET"
    if os.environ.get("ROS_LOCALHOST_ONLY") == "1":
        reach = "LOCALHOST (ROS_LOCALHOST_ONLY)"
    return Graph(
        nodes=tuple(sorted(name for name in names if not name.rpartition("/")[2].startswith("_"))),
        domain=f"ROS_DOMAIN_ID {node.context.get_domain_id()}, discovery {reach}",
        use_sim_time=bool(node.get_parameter("use_sim_time").value),
        clocks=tuple(_full_name(end) for end in node.get_publishers_info_by_topic("/clock")),
        ticks=node.get_clock().now().nanoseconds > 0,
        transport=f"{implementation}, 32 MB of shared memory" if "fastrtps" in implementation else implementation,
        middleware=tuple(middleware_problems(implementation)),
        lost_images=lost_images,
    )


def published_topics(node: Node) -> dict[str, tuple[str, ...]]:
    """Topic -> types of all that somebody publishes."""
    return {name: tuple(types) for name, types in node.get_topic_names_and_types() if node.count_publishers(name)}


def stream_of(
    node: Node, name: str, private: str, kind: type, topic: str, arrivals: Arrivals, drops: Mapping[str, int],
    silence: str, shared: Sequence[str],
) -> Stream:  # fmt: skip
    """What is known of one stream.

    Args:
        private: name below the node. kind: message class. topic: resolved name. drops, silence: of the synchronizer.
        shared: topics that may have several publishers.
    """
    ends, wanted = node.get_publishers_info_by_topic(topic), (type_name(kind),)
    found: list[tuple[str, str]] = []
    if not any(end.topic_type in wanted for end in ends):
        topics = {other: types for other, types in published_topics(node).items() if other != topic}
        found = alternatives(name, wanted, topics)
    return Stream(
        name=name,
        topic=topic,
        wanted=wanted,
        private=private,
        kinds=tuple(dict.fromkeys(end.topic_type for end in ends)),
        publishers=tuple(map(_endpoint, ends)),
        links=tuple(link_problems(node, [topic], [], shared)),
        arrivals=arrivals,
        refused={cause: drops[f"{name}: {cause}"] for cause in OF_STAMPS if drops.get(f"{name}: {cause}")},
        silence=silence,
        alternatives=tuple(found),
    )


def command_topics(node: Node, settings: Settings) -> list[CommandTopic]:
    """Where commands and those of the gripper will go."""
    interface = settings["command_interface"]
    return [
        _command_topic(node, "controller", f"command/{interface}", MESSAGES[interface]),
        _command_topic(node, "gripper command", "command/gripper", GRIPPER),
    ]


def _command_topic(node: Node, what: str, private: str, kind: str) -> CommandTopic:
    topic = node.resolve_topic_name(f"~/{private}")
    senders = [_full_name(end) for end in node.get_publishers_info_by_topic(topic)]
    others = rivals(node, topic, own_claims=0)
    listening: list[str] = []
    if not node.count_subscribers(topic):
        listening = [
            name for name, types in node.get_topic_names_and_types() if kind in types and node.count_subscribers(name)
        ]
    return CommandTopic(
        what, private, topic, kind, moves=what == "controller",
        listeners=tuple(map(_endpoint, node.get_subscriptions_info_by_topic(topic))),
        mismatch=deaf_listeners(node, topic, kind, COMMAND_QOS),
        rivals=tuple(others),
        others=tuple(sorted(set(senders) - set(others))),
        alternatives=tuple(sorted(listening)[:MOST]),
    )  # fmt: skip


def type_name(kind: type) -> str:
    """``package/msg/Name`` of a message class."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def _endpoint(end: Any) -> Endpoint:
    words = (end.qos_profile.reliability.name, end.qos_profile.durability.name)
    return Endpoint(_full_name(end), end.topic_type, ", ".join(word.lower().replace("_", " ") for word in words))


def _full_name(end: Any) -> str:
    return f"{end.node_namespace.rstrip('/')}/{end.node_name}"
