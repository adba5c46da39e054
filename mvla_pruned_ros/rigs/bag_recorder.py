"""Topics to rosbag2, as the bytes that went over the wire: nothing is decoded on the way. Reading needs no ROS and is
in ``bags/reader``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import get_typestore

from ..bags.reader import STORE
from ..bags.writer import BAG_VERSION
from ..node.ros_messages import message_class


@dataclass(frozen=True)
class Topic:
    """One topic to record: its type as ``package/msg/Name``, and how to subscribe."""

    type: str
    reliable: bool = True
    latched: bool = False


def _qos(topic: Topic, depth: int) -> QoSProfile:
    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if topic.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE,
    )


def _offered(topic: Topic) -> Qos:
    """What the bag says about the recorded publisher, so that `ros2 bag play` offers the same."""
    forever = QosTime(9223372036, 854775807)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1,
        reliability=QosReliability.RELIABLE if topic.reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if topic.latched else QosDurability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )


class BagRecorder(AbstractContextManager["BagRecorder"]):
    """Writes what ``node`` hears, with the wall time of its arrival. Use as a context manager.

    Attributes:
        counts: messages written, by topic.
    """

    def __init__(self, node: Node, folder: Path, topics: Mapping[str, Topic]) -> None:
        """Raises ValueError: ``folder`` exists already."""
        self._writer = Writer(folder, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
        try:
            self._writer.open()
        except WriterError as error:
            raise ValueError(f"cannot record to {folder}: {error}") from None
        store = get_typestore(STORE)
        self.counts = dict.fromkeys(topics, 0)
        self._node = node
        self._subscriptions = []
        for name, topic in topics.items():
            connection = self._writer.add_connection(
                name, topic.type, typestore=store, offered_qos_profiles=[_offered(topic)]
            )
            # A deep queue: the recorder must not lose what arrives while it writes.
            self._subscriptions.append(
                node.create_subscription(
                    message_class(topic.type), name, self._writer_of(name, connection), _qos(topic, 100), raw=True
                )
            )

    def _writer_of(self, name: str, connection: Any) -> Callable[[bytes], None]:
        def write(data: bytes) -> None:
            self._writer.write(connection, self._node.get_clock().now().nanoseconds, data)
            self.counts[name] += 1

        return write

    def __exit__(self, *error: object) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._writer.close()
