"""Action chunks on a time line, and what may be sent to a robot. No ROS."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .types import ActionChunk

LOOKAHEAD_S = 0.1  # motion towards the border of the workspace is slowed so that it would take at least this long


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

    def action_at(self, time_ns: int) -> np.ndarray | None:
        """(A,) action due at that time, held over its step; None before the first chunk and after the last action.

        The chunk before is used only for times before the newest one begins: an exhausted chunk never gives way to
        an older one.
        """
        newest, before = self._chunks
        if newest is None:
            return None
        chunk = newest if time_ns >= newest.stamp_ns or before is None else before
        index = chunk.index_at(time_ns)
        return chunk.actions[index] if 0 <= index < len(chunk.actions) else None

    def remaining_s(self, time_ns: int) -> float:
        """Seconds until the newest chunk is exhausted; 0 without one or after its end."""
        newest = self._chunks[0]
        if newest is None:
            return 0.0
        return max(0.0, len(newest.actions) * newest.step_s - (time_ns - newest.stamp_ns) * 1e-9)

    def flush(self) -> None:
        """Forget everything, stamps included: time may have gone back."""
        self._chunks = (None, None)


@dataclass(frozen=True)
class Limits:
    """What may be sent.

    Attributes:
        max_speed_m_s: per axis. workspace_lower, workspace_upper: box of the end effector, base frame, metres.
    """

    max_speed_m_s: float = 1.0
    workspace_lower: tuple[float, ...] = (-10.0, -10.0, -10.0)
    workspace_upper: tuple[float, ...] = (10.0, 10.0, 10.0)

    def __post_init__(self) -> None:
        if not 0 < self.max_speed_m_s < math.inf:
            raise ValueError(f"max_speed_m_s must be positive and finite, got {self.max_speed_m_s}")
        for name in ("workspace_lower", "workspace_upper"):
            corner = getattr(self, name)
            if len(corner) != 3 or not all(map(math.isfinite, corner)):
                raise ValueError(f"{name} must be three finite numbers, got {corner}")
        if not all(low < high for low, high in zip(self.workspace_lower, self.workspace_upper)):
            raise ValueError(
                f"workspace_lower {self.workspace_lower} must be below upper {self.workspace_upper} on each axis"
            )


def limit_command(action: np.ndarray, limits: Limits, end_effector: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """Clamp one action.

    Args:
        action: (4,) velocity x, y, z in m/s and gripper -1..1. end_effector: (3,) metres, base frame; None when it is
            not known, then only speed and gripper are clamped. Motion out of the workspace is slowed from
            ``LOOKAHEAD_S`` before the border on and cut off beyond it; motion back in is free.

    Returns:
        The command, and whether it differs from the action.

    Raises:
        ValueError: not 4 finite numbers; nothing of it may be sent.
    """
    action = np.asarray(action)
    if action.shape != (4,) or not np.isfinite(action).all():
        raise ValueError(f"an action must be 4 finite numbers, got {action}")
    speed = limits.max_speed_m_s
    command = np.clip(action, [-speed] * 3 + [-1.0], [speed] * 3 + [1.0])
    if end_effector is not None:
        fastest_down = np.minimum((np.asarray(limits.workspace_lower) - end_effector) / LOOKAHEAD_S, 0)
        fastest_up = np.maximum((np.asarray(limits.workspace_upper) - end_effector) / LOOKAHEAD_S, 0)
        command[:3] = np.clip(command[:3], fastest_down, fastest_up)
    # An action at the limit, rounded to float32, is not a clamped one.
    return command, bool((np.abs(command - action) > 1e-6).any())
