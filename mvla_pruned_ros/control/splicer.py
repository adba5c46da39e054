"""How one action chunk passes into the next."""

from __future__ import annotations

import numpy as np

from ..types import ActionChunk
from .action_spaces import ActionForm
from .motions import WHOLE, Part, Way, motions_of, parts_of

# While a splice is being closed it is closed by at least this share of the way at each command, so that the robot does
# not go on with what an old chunk wanted when the policy's own steps are tiny, as those of a chunk that stands still.
LEAST_SHARE = 1 / 16
CATCH_UP = 2.0  # poses of a new chunk are caught up with at this multiple of the policy's own highest speed, at most


def step_towards(last: np.ndarray, wanted: np.ndarray, largest: float, part: Part = WHOLE) -> np.ndarray:
    """Values of a part on the way from one motion to another, both (N,), that are at most ``largest`` away.

    At least ``LEAST_SHARE`` of the way is gone.
    """
    length = float(part.way(last, wanted))
    if length <= largest:
        return wanted[part.columns]
    return part.between(last, wanted, max(largest / length, LEAST_SHARE))


class Splicer:
    """Leads the commanded motion from one chunk into the next without a jump (ours).

    Where chunks meet, the command moves towards the new chunk by no more than the largest step between consecutive
    actions within either of the two, until it has reached it; then the chunk is followed as it is. Steps are Euclidean,
    and angles where the end effector turns; linear and angular values have a bound each. A bound along each axis was
    tried and dropped: where the policy hardly steps along one axis, it bends the way aside. No action is dropped or
    delayed: what the command moves towards is the action due now. The gripper is not blended: a grasp is a decision,
    and half of one is none.

    Actions that are poses are where the end effector shall be at the end of their steps; at other times it is led to
    what lies between. A command then covers a part of a step, and is bounded by the same part of the largest step,
    ``CATCH_UP`` times, but never by more than the largest step.
    """

    def __init__(self, form: ActionForm | None = None) -> None:
        """form: of the actions; velocities by default."""
        self._form = form or ActionForm()
        self._chunk: ActionChunk | None = None
        self._motions = np.empty((0, 0))
        self._way: Way | None = None
        self._own = self._largest = np.zeros(1)  # of each part
        self._last: np.ndarray | None = None
        self._last_ns = 0
        self._behind = False

    def follow(
        self, chunk: ActionChunk, index: int, blend: bool = True, at_ns: int = 0, pose: np.ndarray | None = None
    ) -> tuple[np.ndarray, bool]:
        """The next motion to send.

        Args:
            chunk, index: the action that is due. blend: False sends it as it is.
            at_ns: for actions that are poses: the time for which the pose is asked, which may be ahead of that at which
                the action is due. pose: (7,) what is measured; the way to the first pose begins there.

        Returns:
            (M,) float32 motion, see ``motions``, and the gripper; and whether it differs from the one that is due.

        Raises:
            ValueError: see ``motions_of``.
        """
        if chunk is not self._chunk:
            self._join(chunk, at_ns, pose)
        if self._way is None:
            wanted, reach = self._motions[index], 1.0
        else:
            wanted = self._way.at((at_ns - chunk.start_ns) * 1e-9)
            steps = (at_ns - self._last_ns) * 1e-9 / chunk.step_s
            reach = min(CATCH_UP * steps, max(1.0, steps))
        motion = wanted
        if blend and self._behind and self._last is not None:
            parts = zip(parts_of(self._form, len(wanted)), self._largest)
            motion = np.concatenate([step_towards(self._last, wanted, reach * most, part) for part, most in parts])
            self._behind = not np.array_equal(motion, wanted)
        self._last, self._last_ns = motion, at_ns
        return np.append(motion, chunk.actions[index, -1]).astype(np.float32), blend and self._behind

    def _join(self, chunk: ActionChunk, at_ns: int, pose: np.ndarray | None) -> None:
        """Take a new chunk and what its own steps are."""
        motions = motions_of(chunk, self._form)
        before = np.vstack([motions[:1], motions[:-1]])
        own = [part.way(before, motions).max() for part in parts_of(self._form, motions.shape[1])]
        self._largest = np.maximum(own, self._own)
        self._chunk, self._motions, self._own, self._behind = chunk, motions, np.array(own), self._last is not None
        if self._form.of_poses:
            start, start_ns = (pose, at_ns) if self._last is None else (self._last, self._last_ns)
            start = motions[0] if start is None else start
            self._way = Way(motions, chunk.step_s, start, (start_ns - chunk.start_ns) * 1e-9)
            # A chunk of one pose has no steps to go by; the way to it, over its step, is all there is.
            self._behind = self._behind and len(motions) > 1

    def rest(self) -> None:
        """The robot was stopped in between: the next chunk does not meet one, and is followed as it is."""
        self._chunk, self._own, self._last = None, np.zeros(1), None
