"""Recorded bags, read without ROS: folders of rosbag2 and single files of them.

Only what is asked for has to be readable: types are taken up when the first message of a topic is decoded, and of
metadata.yaml nothing but the list of files counts. Without it, as a killed recorder leaves a folder, all files of a bag
in there are read.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from ..configuration.reader import read_yaml
from .channels import ZSTD_MAGIC, BagFile, Channel, decompressed, zstd
from .mcap_file import MAGIC as MCAP_MAGIC
from .mcap_file import McapFile
from .sqlite_file import MAGIC as SQLITE_MAGIC
from .sqlite_file import SqliteFile

# Message definitions and type hashes of the distribution the rclpy wheels come from; the types used here have
# not changed since Humble.
STORE = Stores.ROS2_KILTED
SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd", ".bag")
# How files begin that are no bag, and what to do with them.
OTHERS = {
    b"#ROSBAG V": "is a bag of ROS 1: convert it with `rosbags-convert --src {path} --dst {path.stem}`",
    b"version https://git-lfs": "is a pointer of git-lfs, not the bag itself: fetch it with `git lfs pull`",
}
SEPARATOR = "=" * 80 + "\n"
CDR = "cdr"
LATEST_NS = 2**63 - 1


@dataclass(frozen=True)
class BagMessage:
    """One recorded message: when it arrived, in nanoseconds after the bag's beginning, and its CDR bytes."""

    topic: str
    offset_ns: int
    data: bytes


class DamagedMessageError(ValueError):
    """The bytes of a message are none of its type; the text says of which topic."""


class Bag:
    """A recorded bag, read only. Use as a context manager.

    Attributes:
        folder: where it lies.
        types, counts: by topic, type as ``package/msg/Name`` and number of messages. What cannot be read as messages of
            ROS 2 has its encoding behind the type; a topic of several types has them all.
        duration_s: wall time it covers.
    """

    def __init__(self, folder: Path) -> None:
        """Raises ValueError: no readable bag there; the text names the file and what to do."""
        if not folder.exists():
            raise ValueError(f"bag {folder} does not exist")
        self.folder = folder
        self._stack = ExitStack()
        self._files: list[BagFile] = []
        self._stores: dict[str, Any] = {}
        try:
            for path in _files_of(folder):
                self._files.append(self._open(path))
        except BaseException:
            self._stack.close()
            raise
        self._files.sort(key=lambda file: file.start_ns or LATEST_NS)
        channels: dict[str, list[Channel]] = {}
        self.counts: Counter[str] = Counter()
        for file in self._files:
            for number, channel in file.channels.items():
                channels.setdefault(channel.topic, []).append(channel)
                self.counts[channel.topic] += file.counts[number]
        self._channels = channels
        self.types = {topic: " and ".join(sorted({_kind(c) for c in found})) for topic, found in channels.items()}
        full = [file for file in self._files if file.counts.total()]
        self._start_ns = min((file.start_ns for file in full), default=0)
        self.duration_s = (max((file.end_ns for file in full), default=0) - self._start_ns) / 1e9

    def _open(self, path: Path) -> BagFile:
        """Raises ValueError: not a file of a bag."""
        try:
            with path.open("rb") as file:
                head = file.read(64)
            if head.startswith(ZSTD_MAGIC):
                return self._open(self._unpacked(path))
            for begin, words in OTHERS.items():
                if head.startswith(begin):
                    raise ValueError(words.format(path=path))
            kind = McapFile if head.startswith(MCAP_MAGIC) else SqliteFile
            if kind is SqliteFile and not head.startswith(SQLITE_MAGIC):
                begins = f"begins with {head[:8]!r}" if head else "is empty"
                raise ValueError(f"is not a readable bag: it {begins}, unlike an mcap or a database of sqlite3")
            found: BagFile = kind(path)
        except (EOFError, zstd.ZstdError) as error:
            raise ValueError(f"{path} is not a readable bag: {error}; copy it again from where it was made") from None
        except (ValueError, OSError) as error:
            what = f"is not a readable bag: {error}" if not str(error).startswith("is ") else str(error)
            raise ValueError(f"{path} {what}") from None
        self._stack.callback(found.close)
        return found

    def _unpacked(self, path: Path) -> Path:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        target = Path(folder) / path.stem
        with zstd.open(path, "rb") as packed, target.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        return target

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def lost(self) -> Counter[str]:
        """Cause -> count of what could not be read. Complete after the messages were read to the end."""
        return sum((file.lost for file in self._files), Counter())

    def messages(self, topics: set[str]) -> Iterator[BagMessage]:
        """The messages of some topics in the order of their arrival."""
        for file in self._files:
            wanted = {number: c.topic for number, c in file.channels.items() if c.topic in topics}
            for number, time_ns, data in file.messages(set(wanted)) if wanted else ():
                if data[:4] == ZSTD_MAGIC:  # rosbag2 compresses by message; CDR never begins so
                    with suppress(ValueError):  # a damaged one cannot be decoded as it is, either
                        data = decompressed(data, "zstd")
                yield BagMessage(wanted[number], time_ns - self._start_ns, bytes(data))

    def decode(self, message: BagMessage) -> Any:
        """The message's fields, by the names they have in ROS; arrays of numbers are numpy arrays.

        Raises:
            DamagedMessageError: the bytes are none of the type. ValueError: the type itself is not known.
        """
        kind = self.types[message.topic]
        if kind not in self._stores:
            self._stores[kind] = self._store_of(message.topic)
        try:
            return self._stores[kind].deserialize_cdr(message.data, kind)
        except Exception as error:  # bytes that are not what they should be end in any of them
            raise DamagedMessageError(f"a message of {message.topic} is damaged: {error}") from error

    def _store_of(self, topic: str) -> Any:
        """A store that knows the type of a topic: by the definition in the bag, or else by that of the distribution."""
        standard, kind = get_typestore(STORE), self.types[topic]
        for channel in self._channels[topic]:
            if not channel.definition or _kind(channel) != kind:
                continue
            try:
                store = get_typestore(Stores.EMPTY)
                store.register(_types_of(channel))
                _ = store.types[kind]
            except Exception:  # of a parser; the next definition may do
                continue
            return store
        if kind not in standard.types:
            raise ValueError(
                f"{topic} in {self.folder} has type {kind}, whose definition is not in the bag or cannot be read: "
                "record the bag as mcap, or leave the topic out"
            )
        return standard


def _kind(channel: Channel) -> str:
    """The type, with the encoding where that is not ROS 2's."""
    kind = channel.kind or "(no type)"
    return kind if channel.encoding == CDR else f"{kind} ({channel.encoding})"


def _types_of(channel: Channel) -> dict[str, Any]:
    if channel.language == "ros2msg":
        return dict(get_types_from_msg(channel.definition, channel.kind))
    types: dict[str, Any] = {}
    for part in channel.definition.split(SEPARATOR):
        if part.strip():
            types.update(get_types_from_idl(part.split("\n", 1)[1] if part.startswith("IDL: ") else part))
    return types


def _files_of(folder: Path) -> list[Path]:
    """The files of a bag: those that metadata.yaml lists, or else those there are.

    Raises:
        ValueError: none, or some of those that are listed are missing.
    """
    if not folder.is_dir():
        return [folder]
    listed = _listed(folder)
    missing = [path for path in listed if not path.is_file()]
    if listed and not missing:
        return listed
    if len(missing) < len(listed):
        names = ", ".join(path.name for path in missing)
        raise ValueError(
            f"{folder} is not a readable bag: {names} of its metadata.yaml is missing: add it, or leave it out with "
            "`ros2 bag reindex`"
        )
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name.endswith(SUFFIXES))
    if not paths:
        raise ValueError(
            f"{folder} is not a readable bag: no file in it ends in {', '.join(SUFFIXES)}; give the folder that "
            "`ros2 bag record` made, or the file itself"
        )
    return paths


def _listed(folder: Path) -> list[Path]:
    """What metadata.yaml says are the files of a bag; none where it cannot be read."""
    try:
        names = read_yaml(folder / "metadata.yaml")["rosbag2_bagfile_information"]["relative_file_paths"]
        return [folder / PurePath(name).name for name in names]
    except (ValueError, KeyError, TypeError):
        return []
