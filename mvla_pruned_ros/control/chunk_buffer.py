"""Action chunks on a time line, and how one passes into the next. No ROS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import ActionChunk

# While a splice is being closed it is closed by at least this share of the way at each command, so that the robot does
# not go on with what an old chunk wanted when the policy's own steps are tiny, as those of a chunk that stands still.
LEAST_SHARE = 1 / 16


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


@dataclass(frozen=True)
class OwnSteps:
    """How far a policy itself goes between two consecutive actions, at most.

    Attributes:
        axes: (N,) along each axis of the motion. length: Euclidean. The gripper is no motion of the arm and left out.
    """

    axes: np.ndarray
    length: float

    @classmethod
    def of(cls, actions: np.ndarray) -> OwnSteps:
        """Of a chunk, (K, N + 1); zero for a single action."""
        steps = np.diff(np.asarray(actions, float)[:, :-1], axis=0)
        return cls(np.abs(steps).max(0, initial=0.0), float(np.linalg.norm(steps, axis=1).max(initial=0.0)))

    def __or__(self, other: OwnSteps) -> OwnSteps:
        """The larger of two."""
        return OwnSteps(np.maximum(self.axes, other.axes), max(self.length, other.length))


def step_towards(last: np.ndarray, wanted: np.ndarray, largest: float) -> np.ndarray:
    """The point on the straight way from ``last`` to ``wanted``, both (N,), that is at most ``largest`` away.

    At least ``LEAST_SHARE`` of the way is gone.
    """
    way = wanted - last
    length = float(np.linalg.norm(way))
    return wanted if length <= largest else last + way * max(largest / length, LEAST_SHARE)


class Splicer:
    """Leads the commanded motion from one chunk into the next without a jump (ours).

    Where chunks meet, the command moves towards the new chunk by no more than the largest step (Euclidean) between
    consecutive actions within either of the two, until it has reached it; then the chunk is followed as it is. A bound
    along each axis was tried and dropped: where the policy hardly steps along one axis, it bends the way aside. No
    action is dropped or delayed: what the command moves towards is the action due now. The gripper is not blended: a
    grasp is a decision, and half of one is none.
    """

    def __init__(self) -> None:
        self._chunk: ActionChunk | None = None
        self._own = self._largest = 0.0
        self._last: np.ndarray | None = None
        self._behind = False

    def follow(self, chunk: ActionChunk, index: int, blend: bool = True) -> tuple[np.ndarray, bool]:
        """The next action to send.

        Args:
            chunk, index: the action that is due. blend: False sends it as it is.

        Returns:
            (A,) float32 action, and whether it differs from the one that is due.
        """
        due = chunk.actions[index]
        if chunk is not self._chunk:
            own = OwnSteps.of(chunk.actions).length
            self._largest = max(own, self._own)
            self._chunk, self._own, self._behind = chunk, own, self._last is not None
        motion = due[:-1].astype(float)
        if blend and self._behind and self._last is not None:
            wanted = motion
            motion = step_towards(self._last, wanted, self._largest)
            self._behind = motion is not wanted
        self._last = motion
        return np.append(motion, due[-1]).astype(np.float32), blend and self._behind

    def rest(self) -> None:
        """The robot was stopped in between: the next chunk does not meet one, and is followed as it is."""
        self._chunk, self._own, self._last = None, 0.0, None
