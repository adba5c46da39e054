"""What was commanded over the steps of a chunk, from the signals that a bag holds beside its frames."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

import numpy as np

from .observations import BagFrame, BagSignal

OF_POSITION = 3  # first numbers of a twist or a pose
HOLD_NS = 250_000_000  # a signal older than this says nothing any more; the simulator's arm stops then, too
BEHIND_NS = 1_000_000_000  # signals are kept for this long before the oldest frame that waits


class _Track:
    """Samples of one signal in the order of their stamps."""

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.values: list[np.ndarray] = []

    def add(self, signal: BagSignal) -> None:
        if not self.stamps or signal.stamp_ns >= self.stamps[-1]:
            self.stamps.append(signal.stamp_ns)
            self.values.append(signal.value[:OF_POSITION])  # turning is not learned

    @property
    def newest(self) -> int:
        return self.stamps[-1] if self.stamps else -1

    def held(self, times: np.ndarray, hold_ns: float) -> np.ndarray | None:
        """(K, D): at each time the newest sample, at most ``hold_ns`` old; None where there is none."""
        index = [bisect_right(self.stamps, t) - 1 for t in times]
        if min(index) < 0 or any(t - self.stamps[i] > hold_ns for t, i in zip(times, index)):
            return None
        return np.stack([self.values[i] for i in index])

    def between(self, times: np.ndarray) -> np.ndarray | None:
        """(K, D): interpolated; None outside the samples or across a gap longer than ``HOLD_NS``."""
        if not self.stamps or times[0] < self.stamps[0] or times[-1] > self.stamps[-1]:
            return None
        first, last = bisect_right(self.stamps, times[0]) - 1, bisect_right(self.stamps, times[-1])
        if np.diff(self.stamps[first : last + 1]).max(initial=0) > HOLD_NS:
            return None
        values = np.stack(self.values)
        return np.stack([np.interp(times, self.stamps, values[:, i]) for i in range(values.shape[1])], 1)

    def trim(self, before_ns: int) -> None:
        keep = max(0, bisect_right(self.stamps, before_ns) - 1)  # the last one before it still holds
        if keep > 256:
            del self.stamps[:keep], self.values[:keep]


class _Episode:
    """Signals of one episode, and its frames that wait for what was commanded after them."""

    def __init__(self, roles: set[str], chunk_size: int, step_s: float) -> None:
        self._of_twist, self._of_command = "twist" in roles, "gripper_command" in roles
        self._moves = "twist" if self._of_twist else "ee_pose"
        self._grips = "gripper_command" if self._of_command else "gripper"
        self._step_s, self._step_ns = step_s, round(step_s * 1e9)
        self._steps = np.arange(chunk_size) * self._step_ns
        self._tracks = {self._moves: _Track(), self._grips: _Track()}
        self._waiting: list[BagFrame] = []
        self._now = 0  # stamp of the newest frame

    def add(self, event: BagFrame | BagSignal) -> None:
        if isinstance(event, BagFrame):
            self._waiting.append(event)
            self._now = event.observation.stamp_ns
        elif event.role in self._tracks:
            self._tracks[event.role].add(event)

    def release(self, everything: bool) -> Iterator[tuple[BagFrame, np.ndarray | None]]:
        """Frames whose actions are known, or will not be known any more; everything: nothing more will come."""
        while self._waiting:
            end = self._waiting[0].observation.stamp_ns + int(self._steps[-1]) + self._step_ns * (not self._of_twist)
            # Newer, not as new: a command of the gripper may still follow with the stamp of the twist.
            moves, grips = self._tracks[self._moves], self._tracks[self._grips]
            known = moves.newest > end and grips.newest >= end - HOLD_NS
            if not everything and not known and self._now <= end + BEHIND_NS:
                return
            frame = self._waiting.pop(0)
            yield frame, self._actions(frame)
        for track in self._tracks.values():
            track.trim((self._waiting[0].observation.stamp_ns if self._waiting else self._now) - BEHIND_NS)

    def _actions(self, frame: BagFrame) -> np.ndarray | None:
        times = frame.observation.stamp_ns + self._steps
        motion, grip = self._tracks[self._moves], self._tracks[self._grips].held(times, float("inf"))
        if self._of_twist:
            velocity = motion.held(times, HOLD_NS) if motion.newest >= times[-1] else None
        else:
            positions = motion.between(np.append(times, times[-1] + self._step_ns))
            velocity = None if positions is None else np.diff(positions, axis=0) / self._step_s
        if velocity is None or grip is None:
            return None
        return np.concatenate([velocity, grip if self._of_command else 1 - 2 * grip], 1).astype(np.float32)


def labelled(
    events: Iterable[BagFrame | BagSignal], roles: Iterable[str], chunk_size: int, step_s: float
) -> Iterator[tuple[BagFrame, np.ndarray | None]]:
    """Each frame with the actions that were recorded for the steps after it, as soon as those are known.

    Velocity is the twist that was in force at the beginning of each step; without a topic for it, the differences of
    the end-effector pose over each step. The gripper command likewise; without a topic, what the opening then was
    (1 - 2 x opening).

    Args:
        events: of ``BagFrames`` with signals. roles: of the bag, to know which signals there are.

    Returns:
        In order, frame and (chunk_size, 4) float32 as in ``ActionChunk``, None where the recording does not say.
    """
    roles, number = set(roles), 0
    episode = _Episode(roles, chunk_size, step_s)
    for event in events:
        if event.episode != number:
            yield from episode.release(everything=True)
            episode, number = _Episode(roles, chunk_size, step_s), event.episode
        episode.add(event)
        yield from episode.release(everything=False)
    yield from episode.release(everything=True)
