"""What was commanded over the steps of a chunk, from the signals that a bag holds beside its frames."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

import numpy as np
from scipy.spatial.transform import Rotation

from ..control.action_spaces import ActionForm
from ..geometry.rotations import numbers_of, turn_between, turned_towards
from .observations import BagFrame, BagSignal

HOLD_NS = 250_000_000  # a signal older than this says nothing any more; the simulator's arm stops then, too
BEHIND_NS = 1_000_000_000  # signals are kept for this long before the oldest frame that waits
POSITION, TURN = slice(0, 3), slice(3, 7)  # of a pose


class _Track:
    """Samples of one signal in the order of their stamps."""

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.values: list[np.ndarray] = []

    def add(self, signal: BagSignal) -> None:
        if not self.stamps or signal.stamp_ns >= self.stamps[-1]:
            self.stamps.append(signal.stamp_ns)
            self.values.append(signal.value)

    @property
    def newest(self) -> int:
        return self.stamps[-1] if self.stamps else -1

    def held(self, times: np.ndarray, hold_ns: float) -> np.ndarray | None:
        """(K, D): at each time the newest sample, at most ``hold_ns`` old; None where there is none."""
        index = [bisect_right(self.stamps, t) - 1 for t in times]
        if min(index) < 0 or any(t - self.stamps[i] > hold_ns for t, i in zip(times, index)):
            return None
        return np.stack([self.values[i] for i in index])

    def between(self, times: np.ndarray, poses: bool) -> np.ndarray | None:
        """(K, D): interpolated; None outside the samples or across a gap longer than ``HOLD_NS``.

        Args:
            poses: samples are (7,) poses, whose quaternions are interpolated on the sphere.
        """
        if not self.stamps or times[0] < self.stamps[0] or times[-1] > self.stamps[-1]:
            return None
        first, last = bisect_right(self.stamps, times[0]) - 1, bisect_right(self.stamps, times[-1])
        if np.diff(self.stamps[first : last + 1]).max(initial=0) > HOLD_NS:
            return None
        values = np.stack(self.values)
        straight = values[:, POSITION] if poses else values
        found = np.stack([np.interp(times, self.stamps, column) for column in straight.T], 1)
        if not poses:
            return found
        return np.hstack([found, np.stack([self._turn_at(int(t)) for t in times])])

    def _turn_at(self, time_ns: int) -> np.ndarray:
        """(4,) quaternion; NaN where a sample beside the time has none."""
        i = min(bisect_right(self.stamps, time_ns), len(self.stamps) - 1)
        first, second = self.values[max(0, i - 1)][TURN], self.values[i][TURN]
        if not np.isfinite([first, second]).all():
            return np.full(4, np.nan)
        start, end = self.stamps[max(0, i - 1)], self.stamps[i]
        return turned_towards(first, second, min(1.0, (time_ns - start) / (end - start)) if end > start else 0.0)

    def trim(self, before_ns: int) -> None:
        keep = max(0, bisect_right(self.stamps, before_ns) - 1)  # the last one before it still holds
        if keep > 256:
            del self.stamps[:keep], self.values[:keep]


class _Episode:
    """Signals of one episode, and its frames that wait for what was commanded after them."""

    def __init__(self, roles: set[str], form: ActionForm, action_dim: int, chunk_size: int, step_s: float) -> None:
        self._form, self._size = form, action_dim - 1
        self._of_command = "gripper_command" in roles
        self._moves = where_motion_comes_from(roles, form)
        self._of_twist, self._of_poses = self._moves == "twist", self._moves == "ee_pose"
        self._grips = "gripper_command" if self._of_command else "gripper"
        self._step_s, self._step_ns = step_s, round(step_s * 1e9)
        self._steps = np.arange(chunk_size) * self._step_ns
        turning = {"ee_pose"} if form.frame == "tool" else set()
        self._tracks = {role: _Track() for role in {self._moves, self._grips} | turning}
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
        grip = self._tracks[self._grips].held(times, float("inf"))
        motion = self._velocities(times) if self._of_twist else self._from_way(times)
        if motion is None or grip is None:
            return None
        motion = motion[:, : self._size]
        if not np.isfinite(motion).all():
            return None
        return np.concatenate([motion, grip if self._of_command else 1 - 2 * grip], 1).astype(np.float32)

    def _velocities(self, times: np.ndarray) -> np.ndarray | None:
        """(K, 6) from twists: velocities, or steps at these velocities."""
        track = self._tracks["twist"]
        found = track.held(times, HOLD_NS) if track.newest >= times[-1] else None
        if found is None:
            return None
        if self._form.frame == "tool":
            poses = self._tracks["ee_pose"].between(times, poses=True)
            if poses is None or not np.isfinite(poses).all():
                return None
            found = _in_tool(found, poses)
        return found if self._form.space == "cartesian_velocity" else self._steps_of(found * self._step_s)

    def _from_way(self, times: np.ndarray) -> np.ndarray | None:
        """(K, N) from where the end effector or the joints were at the beginning and the end of each step."""
        way = self._tracks[self._moves].between(np.append(times, times[-1] + self._step_ns), self._of_poses)
        if way is None:
            return None
        if not self._of_poses:
            return np.diff(way, axis=0) / self._step_s if self._form.space == "joint_velocity" else way[1:]
        position = np.diff(way[:, POSITION], axis=0)
        if self._form.of_poses:
            if self._form.position == "absolute":
                position = way[1:, POSITION]
            return np.hstack([position, numbers_of(way[1:, TURN], self._form.rotation)])
        known = np.isfinite(way).all()
        turn = turn_between(way[:-1, TURN], way[1:, TURN]) if known else np.full((len(times), 3), np.nan)
        steps = np.hstack([position, turn])
        if self._form.frame == "tool":
            steps = _in_tool(steps, way[:-1]) if known else np.full_like(steps, np.nan)
        return steps / self._step_s if self._form.space == "cartesian_velocity" else self._steps_of(steps)

    def _steps_of(self, steps: np.ndarray) -> np.ndarray:
        """(K, 6) steps with rotation vectors, with the rotation in the form of the actions."""
        turn = Rotation.from_rotvec(steps[:, 3:]).as_quat()
        return np.hstack([steps[:, :3], numbers_of(turn, self._form.rotation)])


def _in_tool(motions: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """(K, 6) linear and angular along the axes of the tool at (K, 7) poses, from those along the base's."""
    turn = Rotation.from_quat(poses[:, TURN]).inv()
    return np.hstack([turn.apply(motions[:, :3]), turn.apply(motions[:, 3:])])


def where_motion_comes_from(roles: Iterable[str], form: ActionForm) -> str:
    """The role that tells the motion of actions: of poses where the end effector was, of joints their trajectory if one
    was recorded, else where they were; of velocities and steps the twist, if one was recorded."""
    if form.of_joints:
        return "joint_trajectory" if "joint_trajectory" in roles else "joint_states"
    return "twist" if "twist" in roles and not form.of_poses else "ee_pose"


def labelled(
    events: Iterable[BagFrame | BagSignal], roles: Iterable[str], form: ActionForm, action_dim: int, chunk_size: int,
    step_s: float,
) -> Iterator[tuple[BagFrame, np.ndarray | None]]:  # fmt: skip
    """Each frame with the actions that were recorded for the steps after it, as soon as those are known.

    Velocity is the twist that was in force at the beginning of each step; without a topic for it, the differences of
    the end-effector pose over each step. A step is either over its time. A pose is where the end effector was at the
    end of the step, and so are positions of joints. The gripper command likewise; without a topic, what the opening
    then was (1 - 2 x opening).

    Args:
        events: of ``BagFrames`` with signals. roles: of the bag, to know which signals there are. form, action_dim: of
            the actions; four values leave the rotation out.

    Returns:
        In order, frame and (chunk_size, action_dim) float32 as in ``ActionChunk``, None where the recording does not
        say.
    """
    roles, number = set(roles), 0
    episode = _Episode(roles, form, action_dim, chunk_size, step_s)
    for event in events:
        if event.episode != number:
            yield from episode.release(everything=True)
            episode, number = _Episode(roles, form, action_dim, chunk_size, step_s), event.episode
        episode.add(event)
        yield from episode.release(everything=False)
    yield from episode.release(everything=True)
