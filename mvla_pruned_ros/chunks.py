"""Action chunks on a time line, and what may be sent to a robot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .types import ActionChunk


class ChunkBuffer:
    """Holds the newest chunk and says which of its actions is due.

    Actions are indexed by the stamp of their observation: a chunk that arrives late joins at the action that is
    due now, and what lies in the past is skipped. Used from two threads: a chunk is replaced by one assignment.
    """

    def __init__(self) -> None:
        self._chunk: ActionChunk | None = None

    @property
    def chunk(self) -> ActionChunk | None:
        return self._chunk

    def put(self, chunk: ActionChunk) -> bool:
        """Take a chunk; False when its observation is older than that of the one in use."""
        if self._chunk is not None and chunk.stamp_ns < self._chunk.stamp_ns:
            return False
        self._chunk = chunk
        return True

    def action_at(self, time_ns: int) -> np.ndarray | None:
        """(A,) action due at that time; None before the first chunk, before its stamp, or when it is exhausted."""
        chunk = self._chunk
        if chunk is None:
            return None
        index = chunk.index_at(time_ns)
        return chunk.actions[index] if 0 <= index < len(chunk.actions) else None

    def flush(self) -> None:
        self._chunk = None


@dataclass(frozen=True)
class CommandLimits:
    """What may be sent.

    Attributes:
        max_speed: m/s, per axis. workspace_lower, workspace_upper: box of the end effector, base frame, metres;
            motion that leads out of it is cut off, motion back in is not.
    """

    max_speed: float
    workspace_lower: tuple[float, float, float]
    workspace_upper: tuple[float, float, float]

    def apply(self, action: np.ndarray, end_effector: np.ndarray) -> tuple[np.ndarray, bool]:
        """Clamp one action.

        Args:
            action: (4,) velocity x, y, z in m/s and gripper -1..1, finite. end_effector: (3,) metres.

        Returns:
            The command, and whether it differs from the action.
        """
        command = np.clip(action, [-self.max_speed] * 3 + [-1.0], [self.max_speed] * 3 + [1.0]).astype(np.float32)
        outward = (end_effector <= self.workspace_lower) & (command[:3] < 0)
        outward |= (end_effector >= self.workspace_upper) & (command[:3] > 0)
        command[:3][outward] = 0.0
        return command, bool((command != action.astype(np.float32)).any())
