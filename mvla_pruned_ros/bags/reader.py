"""Recorded rosbag2 folders, read without ROS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.typesys import Stores, get_typestore

# Message definitions and type hashes of the distribution the rclpy wheels come from; the types used here have
# not changed since Humble.
STORE = Stores.ROS2_KILTED


@dataclass(frozen=True)
class BagMessage:
    """One recorded message: when it arrived, in nanoseconds after the bag's beginning, and its CDR bytes."""

    topic: str
    offset_ns: int
    data: bytes


class Bag:
    """A recorded bag, read only. Use as a context manager.

    Attributes:
        folder: where it lies.
        types, counts: by topic, type as ``package/msg/Name`` and number of messages.
        duration_s: wall time it covers.
    """

    def __init__(self, folder: Path) -> None:
        """Raises ValueError: no readable rosbag2 there."""
        if not folder.exists():
            raise ValueError(f"bag {folder} does not exist")
        try:
            self._reader = AnyReader([folder], default_typestore=get_typestore(STORE))
            self._reader.open()
        except (AnyReaderError, OSError) as error:
            raise ValueError(f"{folder} is not a readable bag: {error}") from None
        self.folder = folder
        self.types = {c.topic: c.msgtype for c in self._reader.connections}
        self.counts = {topic: info.msgcount for topic, info in self._reader.topics.items()}
        self.duration_s = self._reader.duration / 1e9

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.close()

    def messages(self, topics: set[str]) -> Iterator[BagMessage]:
        """The messages of some topics in the order of their arrival."""
        connections = [c for c in self._reader.connections if c.topic in topics]
        for connection, time_ns, data in self._reader.messages(connections):
            yield BagMessage(connection.topic, time_ns - self._reader.start_time, bytes(data))

    def decode(self, message: BagMessage) -> Any:
        """The message's fields, by the names they have in ROS; arrays of numbers are numpy arrays."""
        return self._reader.deserialize(message.data, self.types[message.topic])
