"""Files of mcap (mcap.dev/spec), read with or without their index, and past what is damaged in them.

A reader of its own: those there are give up a file for one bad chunk, for the schema of a topic that nobody asked for,
or for an index that a killed recorder has not written.
"""

from __future__ import annotations

import heapq
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .channels import Channel, decompressed

MAGIC = b"\x89MCAP0\r\n"
RECORD = struct.Struct("<BQ")  # opcode, length of what follows
FOOTER = struct.Struct("<BQQQI")  # as well; beginning of the summary, of its offsets, checksum
CHUNK = struct.Struct("<QQQI")  # times of first and last message, size, checksum
CHUNK_INDEX = struct.Struct("<QQQQI")  # the times, where the chunk begins, length of it, bytes of the offsets
MESSAGE = struct.Struct("<HIQQ")  # channel, number, times of recording and publishing
STATISTICS = struct.Struct("<QHIIIIQQI")  # numbers of records, times of first and last message, bytes of the counts
SCHEMA_OP, CHANNEL_OP, MESSAGE_OP, CHUNK_OP, INDEX_OP, CHUNK_INDEX_OP, STATISTICS_OP = 3, 4, 5, 6, 7, 8, 11
ENDS = (2, 15)  # footer, end of the data
CUT = "messages lost: the recording is cut off"
DAMAGED = "messages lost: in a damaged chunk"
Found = tuple[int, int, memoryview]  # channel, nanoseconds, bytes of a message


@dataclass(frozen=True)
class _Chunk:
    """Where the content of a chunk's record lies in the file, and nanoseconds of its first message."""

    position: int
    length: int
    start_ns: int
    counts: dict[int, int]  # messages by channel, where the index says so


class McapFile:
    """See ``BagFile``."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError: no channel can be read."""
        self.channels: dict[int, Channel] = {}
        self.counts: Counter[int] = Counter()
        self.lost: Counter[str] = Counter()
        self.start_ns = self.end_ns = 0
        self._schemas: dict[int, tuple[str, str, str]] = {}  # name, language, definition
        self._chunks: list[_Chunk] = []
        self._loose = False  # messages lie outside of chunks
        self._file = path.open("rb")
        self._size = os.fstat(self._file.fileno()).st_size
        if not self._read_summary():
            self._scan()
        if not self.channels:
            self.close()
            raise ValueError("no channel of it can be read: try `mcap recover`")

    def close(self) -> None:
        self._file.close()

    def messages(self, wanted: set[int]) -> Iterator[Found]:
        """See ``BagFile``. What is left of a damaged chunk is read, the rest counted."""
        if self._loose:
            yield from self._in_file_order(wanted)
            return
        # A chunk is not opened before its time has come; those that overlap take turns.
        chunks = [self._in_turn(chunk, wanted) for chunk in self._chunks]
        for _, _, found in heapq.merge(*chunks, key=lambda entry: entry[:2]):
            if found is not None:
                yield found

    def _in_turn(self, chunk: _Chunk, wanted: set[int]) -> Iterator[tuple[int, int, Found | None]]:
        if chunk.counts and not wanted & chunk.counts.keys():
            return
        yield chunk.start_ns, chunk.position, None
        for found in self._of_chunk(chunk, wanted):
            yield found[1], chunk.position, found

    def _of_chunk(self, chunk: _Chunk, wanted: set[int]) -> list[Found]:
        """Messages by time."""
        found, whole = [], False
        for op, content in self._records_of(chunk):
            whole = op in ENDS
            if op == MESSAGE_OP and len(content) >= MESSAGE.size:
                channel, _, time_ns, _ = MESSAGE.unpack_from(content)
                if channel in wanted:
                    found.append((channel, time_ns, content[MESSAGE.size :]))
        if not whole:
            expected = sum(count for channel, count in chunk.counts.items() if channel in wanted)
            self.lost[DAMAGED] += max(1, expected - len(found))
        return sorted(found, key=lambda one: one[1])

    def _in_file_order(self, wanted: set[int]) -> Iterator[Found]:
        for op, position, length in self._records():
            if op == CHUNK_OP:
                yield from self._of_chunk(_Chunk(position, length, 0, {}), wanted)
            elif op == MESSAGE_OP and length >= MESSAGE.size:
                content = self._read(position, length)
                channel, _, time_ns, _ = MESSAGE.unpack_from(content)
                if channel in wanted:
                    yield channel, time_ns, content[MESSAGE.size :]

    # --- records -----------------------------------------------------------------------------------------------

    def _read(self, position: int, length: int) -> memoryview:
        self._file.seek(position)
        return memoryview(self._file.read(length))

    def _records(self, position: int = len(MAGIC)) -> Iterator[tuple[int, int, int]]:
        """Opcode, position and length of the records of the file, up to its end or where it is cut off."""
        while True:
            head = self._read(position, RECORD.size)
            if len(head) < RECORD.size:
                self.lost[CUT] = 1
                return
            op, length = RECORD.unpack(head)
            position += RECORD.size
            if position + length > self._size:
                self.lost[CUT] = 1
                if op == CHUNK_OP:
                    yield op, position, self._size - position
                return
            yield op, position, length
            if op in ENDS:
                return
            position += length

    def _records_of(self, chunk: _Chunk) -> Iterator[tuple[int, memoryview]]:
        """Opcode and content of the records in a chunk, and one of ``ENDS`` when it was whole."""
        content = self._read(chunk.position, chunk.length)
        try:
            _, _, size, checksum = CHUNK.unpack_from(content)
            name, at = _text(content, CHUNK.size)
            (packed,) = struct.unpack_from("<Q", content, at)
            plain = memoryview(decompressed(content[at + 8 : at + 8 + packed], name))
        except (ValueError, struct.error):
            return
        damaged = len(plain) != size or (checksum and zlib.crc32(plain) != checksum)
        at = 0
        while at + RECORD.size <= len(plain):
            op, length = RECORD.unpack_from(plain, at)
            at += RECORD.size
            if at + length > len(plain):
                return
            yield op, plain[at : at + length]
            at += length
        if at == len(plain) and not damaged:
            yield ENDS[0], plain[:0]

    # --- what there is -----------------------------------------------------------------------------------------

    def _read_summary(self) -> bool:
        """Channels, counts and chunks as the end of the file lists them; False when it does not."""
        end = self._size - FOOTER.size - len(MAGIC)
        if end < len(MAGIC):
            return False
        footer = self._read(end, FOOTER.size + len(MAGIC))
        op, _, start, _, _ = FOOTER.unpack_from(footer)
        if footer[FOOTER.size :] != MAGIC or op != ENDS[0] or not len(MAGIC) < start < end:
            return False
        known = False
        try:
            for op, position, length in self._records(start):
                content = self._read(position, length)
                if op == CHUNK_INDEX_OP:
                    self._chunks.append(self._indexed(content))
                elif op == STATISTICS_OP:
                    *numbers, size = STATISTICS.unpack_from(content)
                    self.start_ns, self.end_ns = numbers[6:]
                    self.counts.update(dict(struct.iter_unpack("<HQ", content[STATISTICS.size :][:size])))
                    known = True
                else:
                    self._define(op, content)
        except (struct.error, ValueError):
            known = False
        known = known and len(self.channels) > 0 and (bool(self._chunks) or not self.counts.total())
        if not known:
            self._chunks.clear()
            self.channels.clear()
            self.counts.clear()
        return known

    def _indexed(self, content: memoryview) -> _Chunk:
        start_ns, _, position, length, size = CHUNK_INDEX.unpack_from(content)
        if not len(MAGIC) < position < position + length <= self._size:
            raise ValueError("the index leads out of the file")
        counts = {}
        for channel, at in struct.iter_unpack("<HQ", content[CHUNK_INDEX.size :][:size]):
            op, _, _, entries = struct.unpack("<BQHI", self._read(at, 15))
            if op != INDEX_OP:
                raise ValueError("the index leads to another record")
            counts[channel] = entries // 16
        return _Chunk(position + RECORD.size, length - RECORD.size, start_ns, counts)

    def _scan(self) -> None:
        """The same from the data themselves, all of them."""
        times = []
        for op, position, length in self._records():
            if op == CHUNK_OP:
                start_ns = int.from_bytes(self._read(position, 8), "little")
                self._chunks.append(_Chunk(position, length, start_ns, {}))
                inside = list(self._records_of(self._chunks[-1]))
            else:
                inside = [(op, self._read(position, min(length, MESSAGE.size) if op == MESSAGE_OP else length))]
                self._loose |= op == MESSAGE_OP
            for kind, content in inside:
                if kind == MESSAGE_OP and len(content) >= MESSAGE.size:
                    channel, _, time_ns, _ = MESSAGE.unpack_from(content)
                    self.counts[channel] += 1
                    times.append(time_ns)
                else:
                    self._define(kind, content)
        self.start_ns, self.end_ns = min(times, default=0), max(times, default=0)

    def _define(self, op: int, content: memoryview) -> None:
        """Take up a schema or a channel; one that is damaged is left out."""
        try:
            if op == SCHEMA_OP:
                (number,) = struct.unpack_from("<H", content)
                name, at = _text(content, 2)
                language, at = _text(content, at)
                self._schemas[number] = name, language, _text(content, at)[0]
            elif op == CHANNEL_OP:
                number, schema = struct.unpack_from("<HH", content)
                topic, at = _text(content, 4)
                kind, language, definition = self._schemas.get(schema, ("", "", ""))
                self.channels[number] = Channel(topic, kind, _text(content, at)[0], definition, language)
        except struct.error:
            return


def _text(content: memoryview, at: int) -> tuple[str, int]:
    """A string with its length before it, and where it ends. Of a binary definition nothing but the length is right."""
    (length,) = struct.unpack_from("<I", content, at)
    return bytes(content[at + 4 : at + 4 + length]).decode(errors="replace"), at + 4 + length
