"""How one action chunk passes into the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import ActionChunk

# While a splice is being closed it is closed by at least this share of the way at each command, so that the robot does
# not go on with what an old chunk wanted when the policy's own steps are tiny, as those of a chunk that stands still.
LEAST_SHARE = 1 / 16


@dataclass(frozen=True)
class IntraChunkStep:
    """How far a policy itself goes between two consecutive actions, at most.

    Attributes:
        axes: (N,) along each axis of the motion. length: Euclidean. The gripper is no motion of the arm and left out.
    """

    axes: np.ndarray
    length: float

    @classmethod
    def of(cls, actions: np.ndarray) -> IntraChunkStep:
        """Of a chunk, (K, N + 1); zero for a single action."""
        steps = np.diff(np.asarray(actions, float)[:, :-1], axis=0)
        return cls(np.abs(steps).max(0, initial=0.0), float(np.linalg.norm(steps, axis=1).max(initial=0.0)))

    def __or__(self, other: IntraChunkStep) -> IntraChunkStep:
        """The larger of two."""
        return IntraChunkStep(np.maximum(self.axes, other.axes), max(self.length, other.length))


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
            own = IntraChunkStep.of(chunk.actions).length
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
