"""Action chunks on a time line, and what may be sent to a robot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .types import ActionChunk

# The end effector is slowed so that it reaches the border of its box no sooner than this: about the age of its
# position plus the time until the next command.
LOOKAHEAD_S = 0.1


class ChunkBuffer:
    """Holds the newest chunk and says which of its actions is due.

    Actions are indexed by the stamp of their observation: a chunk that arrives late joins at the action that is
    due now, and what lies in the past is skipped. Used from two threads: what is held is replaced by one assignment.
    """

    def __init__(self) -> None:
        self._held: tuple[ActionChunk, ...] = ()  # newest first, then the one before it

    @property
    def chunk(self) -> ActionChunk | None:
        """The newest chunk."""
        held = self._held
        return held[0] if held else None

    def put(self, chunk: ActionChunk) -> bool:
        """Take a chunk; False when its observation is not newer than that of the one in use."""
        held = self._held
        if held and chunk.stamp_ns <= held[0].stamp_ns:
            return False
        self._held = (chunk, *held[:1])
        return True

    def action_at(self, time_ns: int) -> np.ndarray | None:
        """(A,) action due at that time; None before the first chunk, before its stamp, or when it is exhausted."""
        # A camera whose clock is a little ahead stamps chunks that begin after now: until then the last one runs.
        for chunk in self._held:
            index = chunk.index_at(time_ns)
            if index >= 0:
                return chunk.actions[index] if index < len(chunk.actions) else None
        return None

    def flush(self) -> None:
        """Forget everything: nothing is due until the next chunk."""
        self._held = ()


@dataclass(frozen=True)
class CommandLimits:
    """What may be sent.

    Attributes:
        max_speed: m/s, per axis. workspace_lower, workspace_upper: box of the end effector, base frame, metres;
            motion towards its border is slowed, motion that leads out is cut off, motion back in is not.
    """

    max_speed: float
    workspace_lower: tuple[float, float, float]
    workspace_upper: tuple[float, float, float]

    def apply(self, action: np.ndarray, end_effector: np.ndarray) -> tuple[np.ndarray, bool]:
        """Clamp one action.

        Args:
            action: (4,) velocity x, y, z in m/s and gripper -1..1. end_effector: (3,) metres.

        Returns:
            The command, and whether it differs from the action.

        Raises:
            ValueError: the action or the position is not all finite numbers; nothing of it may be sent.
        """
        action = np.asarray(action, np.float32)
        if action.shape != (4,) or not np.isfinite(action).all() or not np.isfinite(end_effector).all():
            raise ValueError(f"action {action} at {end_effector}: 4 and 3 finite numbers are needed")
        command = np.clip(action, [-self.max_speed] * 3 + [-1.0], [self.max_speed] * 3 + [1.0]).astype(np.float32)
        down = np.maximum(end_effector - np.asarray(self.workspace_lower), 0) / LOOKAHEAD_S
        up = np.maximum(np.asarray(self.workspace_upper) - end_effector, 0) / LOOKAHEAD_S
        command[:3] = np.clip(command[:3], -down, up)
        return command, bool((command != action).any())
