"""What the two kinds of bag files have in common: channels, and compression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import lz4.frame
from backports import zstd

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Channel:
    """One publisher's stream.

    Attributes:
        topic: its name. kind: type of its messages, as ``package/msg/Name``. encoding: of a message, cdr in ROS 2.
        definition: text of the type and of those in it, empty when the file has none. language: of it, ros2msg or
            ros2idl.
    """

    topic: str
    kind: str
    encoding: str
    definition: str = ""
    language: str = ""


class BagFile(Protocol):
    """One file of a bag.

    Attributes:
        channels, counts: by id, channel and number of its messages. start_ns, end_ns: when the first and the last
            message was recorded; both 0 without messages.
        lost: cause -> count of what could not be read. Complete after the messages were read to the end.
    """

    channels: dict[int, Channel]
    counts: Counter[int]
    start_ns: int
    end_ns: int
    lost: Counter[str]

    def messages(self, wanted: set[int]) -> Iterator[tuple[int, int, bytes | memoryview]]:
        """Channel id, nanoseconds and bytes of the messages of some channels, in the order they were recorded."""

    def close(self) -> None: ...


def decompressed(data: bytes | memoryview, name: str) -> bytes | memoryview:
    """Raises ValueError when the bytes are damaged, or compressed in another way than lz4, zstd or not at all."""
    try:
        if name == "zstd":
            return zstd.decompress(data)
        if name == "lz4":
            return lz4.frame.decompress(data)
    except (zstd.ZstdError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"damaged {name}: {error}") from error
    if name:
        raise ValueError(f"unknown compression {name!r}")
    return data
