"""Action chunks on a time line."""

from __future__ import annotations

import numpy as np

from ..types import ActionChunk


class ChunkBuffer:
    """Holds the newest chunk and says which of its actions is due.

    Actions are indexed by the stamp of their observation: a chunk that arrives late joins at the action that is
    due now, and what lies in the past is skipped. Written by one thread and read by others without a lock: the pair
    of chunks is replaced by one assignment.
    """

    def __init__(self) -> None:
        self._chunks: tuple[ActionChunk | None, ActionChunk | None] = (None, None)  # in use, the one before

    @property
    def chunk(self) -> ActionChunk | None:
        """The newest chunk."""
        return self._chunks[0]

    def put(self, chunk: ActionChunk) -> bool:
        """Take a chunk; False when its observation is not newer than that of the one in use."""
        newest = self._chunks[0]
        if newest is not None and chunk.stamp_ns <= newest.stamp_ns:
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

    def action_at(self, time_ns: int) -> np.ndarray | None:
        """(A,) action due at that time; None where ``due`` is."""
        due = self.due(time_ns)
        return None if due is None else due[0].actions[due[1]]

    def remaining_s(self, time_ns: int) -> float:
        """Seconds until the newest chunk is exhausted; 0 without one or after its end."""
        newest = self._chunks[0]
        if newest is None:
            return 0.0
        return max(0.0, len(newest.actions) * newest.step_s - (time_ns - newest.stamp_ns) * 1e-9)

    def flush(self) -> None:
        """Forget everything, stamps included: time may have gone back."""
        self._chunks = (None, None)
