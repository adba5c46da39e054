"""Action chunks on a time line."""

from __future__ import annotations

import threading

from ..types import ActionChunk


class ChunkBuffer:
    """Holds the newest chunk and says which of its actions is due.

    Actions are indexed by the stamp of their observation: a chunk that arrives late joins at the action that is due
    now, and what lies in the past is skipped, unless the robot stood still meanwhile. A chunk belongs to the episode,
    the generation, in which its observation was made: one of an older generation cannot be put. Written by several
    threads under a lock and read by others without one: the pair of chunks is replaced by one assignment.

    Attributes:
        generation: of the episode now.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.generation = 0
        self._chunks: tuple[ActionChunk | None, ActionChunk | None] = (None, None)  # in use, the one before

    @property
    def chunk(self) -> ActionChunk | None:
        """The newest chunk."""
        return self._chunks[0]

    def put(self, chunk: ActionChunk, generation: int) -> bool:
        """Take a chunk; False when it is of another generation, or its observation no newer than that of the one in
        use."""
        with self._lock:
            newest = self._chunks[0]
            if generation != self.generation or (newest is not None and chunk.stamp_ns <= newest.stamp_ns):
                return False
            self._chunks = (chunk, newest)
            return True

    def due(self, time_ns: int) -> tuple[ActionChunk, int] | None:
        """Chunk and index of the action due at that time, which is held over its step; None before the first chunk and
        after the last action.

        The chunk before is used only for times before the newest one begins: an exhausted chunk never gives way to
        an older one.
        """
        newest, before = self._chunks
        if newest is None:
            return None
        chunk = newest if time_ns >= newest.stamp_ns or before is None else before
        index = chunk.index_at(time_ns)
        return (chunk, index) if 0 <= index < len(chunk.actions) else None

    def from_rest(self, time_ns: int, rest_ns: int) -> None:
        """Begin the newest chunk now, if the robot was seen at rest; see ``ActionChunk.from_rest``."""
        with self._lock:
            newest, before = self._chunks
            if newest is not None:
                self._chunks = (newest.from_rest(time_ns, rest_ns), before)

    def clear(self) -> None:
        """Drop the chunks; the episode goes on."""
        with self._lock:
            self._chunks = (None, None)

    def flush(self, generation: int | None = None) -> int:
        """Begin another episode: forget everything, stamps included, as time may have gone back.

        Args:
            generation: the one that the caller believes to be in. Nothing is done when it is over already.

        Returns:
            The generation to put chunks with from now on, which is ``generation`` itself when that is over.
        """
        with self._lock:
            if generation is not None and generation != self.generation:
                return generation
            self.generation += 1
            self._chunks = (None, None)
            return self.generation
