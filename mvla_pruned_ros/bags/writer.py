"""Bags written without ROS, as mcap that `ros2 bag` and Foxglove read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import get_typestore

from ..messages.encode import Encoder
from .reader import STORE

BAG_VERSION = 9


def bag_encoder() -> Encoder:
    """Makes messages of the classes of rosbags."""
    return Encoder(get_typestore(STORE).types.__getitem__, np.asarray)


class BagWriter:
    """Writes a bag of mcap. Use as a context manager.

    Attributes:
        messages: makes them. counts: messages written, by topic.
    """

    def __init__(self, folder: Path, topics: Mapping[str, str]) -> None:
        """
        Args:
            topics: topic -> type as ``package/msg/Name``.

        Raises:
            ValueError: ``folder`` exists already.
        """
        try:
            self._writer = Writer(folder, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        except WriterError as error:
            raise ValueError(f"cannot write a bag: {error} Choose another folder or remove it") from None
        self._store = get_typestore(STORE)
        self.messages = bag_encoder()
        self.counts = dict.fromkeys(topics, 0)
        self._connections = {
            topic: self._writer.add_connection(topic, kind, typestore=self._store) for topic, kind in topics.items()
        }

    def write(self, topic: str, time_ns: int, message: Any) -> None:
        """One message, recorded at ``time_ns``."""
        connection = self._connections[topic]
        self._writer.write(connection, time_ns, self._store.serialize_cdr(message, connection.msgtype))
        self.counts[topic] += 1

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()
