"""Observations and recorded commands of a bag, in the order they were recorded, as the policy node would see them.

One pass, nothing but about a second of messages in memory. Conversion and matching are those of the node (``messages``,
``observation``); where the node takes the newest image that is complete, every complete image is taken here. And a bag
can look ahead: an image gets the partner nearest to it, though it was recorded up to ``AHEAD_NS`` later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..messages.decode import ConversionError, gripper_opening, stamp_ns
from ..observation.arm_state import end_effector_pose, joint_positions, orientation_of
from ..observation.builder import ObservationBuilder
from ..observation.frames import TransformError
from ..observation.reasons import Reasons
from ..observation.streams import INTERPOLATED, is_camera_info, is_cloud, is_image
from ..observation.synchronizer import MatchedMessages, Synchronizer
from ..types import Observation
from .reader import Bag, DamagedMessageError
from .setup import JOINTS, TRAJECTORY, TRANSFORMS, BagSetup
from .tf_tree import TransformTree
from .twist_frames import TwistFrames

AHEAD_NS = 500_000_000  # recorded time that is read ahead: drivers of depth cameras deliver late
KEPT_S = 1.0  # recorded time from when a message was read
UNMATCHED = "image: superseded or unmatched"
OF_POSITION = 3  # first numbers of a pose
CLOCK_JUMP_NS = 1_000_000_000  # a stamp that lies back by more begins an episode


def is_stream(role: str) -> bool:
    """Whether an observation is made of a role's messages."""
    return role in INTERPOLATED or is_image(role) or is_cloud(role) or is_camera_info(role)


def with_own_images(observation: Observation) -> Observation:
    """The same with images that may be written to: the bag's own memory may not, and torch warns of that."""
    if all(view.image.flags.writeable for view in observation.views):
        return observation
    return replace(observation, views=tuple(replace(view, image=view.image.copy()) for view in observation.views))


@dataclass(frozen=True)
class BagFrame:
    """What the sensors saw. episode: 0 for the first; begins: whether this is the episode's first frame."""

    episode: int
    begins: bool
    observation: Observation


@dataclass(frozen=True)
class BagSignal:
    """One small message.

    Attributes:
        role: twist, gripper_command, ee_pose, gripper, joint_states or joint_trajectory. episode: 0 for the first.
        stamp_ns: of its header; of a message without one, the newest seen before it on any topic but the pictures'.
        value: velocity (6,), m/s and rad/s, base frame; command (1,) -1 open to 1 close; pose (7,) in the base frame,
            position in m and quaternion x y z w, NaN where the message has none; opening (1,) 0..1; positions (N,) of
            the joints of ``joint_names``, of a trajectory at the time at which they are to be reached.
    """

    role: str
    episode: int
    stamp_ns: int
    value: np.ndarray


@dataclass(frozen=True)
class _Held:
    """A message that was read ahead and has not been handled yet."""

    topic: str
    offset_ns: int
    message: Any


class BagFrames:
    """Iterate once.

    Attributes:
        roles: role -> topic of what is read.
        joints: how many are told.
        images: how many pictures the bag has, at least as many as frames will come.
        twists: what was made of those.
        drops: cause -> count of messages and pictures that were not used. unused: why pictures were not. Both complete
            after the iteration.
    """

    def __init__(self, bag: Bag, setup: BagSetup, signals: bool = False) -> None:
        """
        Args:
            signals: yield commands, poses and openings as well, each where it was recorded.

        Raises:
            ValueError: topics or extrinsics are missing; see ``BagSetup``.
        """
        self._bag, self._setup, self._signals = bag, setup, signals
        self.roles = setup.resolve(bag)
        self._frames, self._readers = setup.frames(), setup.readers()
        self._builder = ObservationBuilder(self._frames, self._readers)
        self.joints = len(self._readers.joints)
        self._commands = setup.gripper_commands()
        self._moving: set[str] = set()  # frames whose transforms tell where the end effector is
        self.images = bag.counts[self.roles["image"]]
        self._names: dict[str, list[str]] = {}  # two cameras may share a camera info
        for role, topic in self.roles.items():
            if role not in TRANSFORMS:
                self._names.setdefault(topic, []).append(role)
        streams = {role: topic for role, topic in self.roles.items() if is_stream(role)}
        infos = tuple(filter(is_camera_info, streams))
        self._tolerance_ns = round(setup.sync_tolerance_ms * 1e6)
        self._now = 0.0  # recorded time, seconds, of what was read
        self._store = Synchronizer(
            streams, unstamped=infos, clock=lambda: self._now, kept_s=KEPT_S, joints=setup.joints(),
            hand=any(setup.hand_frames),
        )  # fmt: skip
        self.drops = self._store.drops
        self.twists = TwistFrames(setup, self.drops)
        self.unused = Reasons()
        self._taken = 0
        self._episode, self._begins = 0, True
        self._instruction = setup.instruction
        self._newest: dict[str, int] = {}  # stamps of what was handled
        self._newest_ahead: dict[str, int] = {}  # of what was read
        self._camera_infos: dict[str, Any] = {}

    def refuse(self, cause: str, reason: str) -> None:
        """Count a picture that was not used. cause: in ``drops``. reason: in words that say what to do."""
        self.drops[cause] += 1
        self.unused.add(reason)

    def __iter__(self) -> Iterator[BagFrame | BagSignal]:
        count = 0
        for event in self._events():
            count += isinstance(event, BagFrame)
            yield event
        if not count:
            causes = "; ".join(f"{cause}: {number}" for cause, number in sorted(self.drops.items())) or "no picture"
            why = self.unused.sentence(self.images)
            raise ValueError(f"no frame of {self._bag.folder} can be used: {causes}" + (f"; {why}" if why else ""))

    def _events(self) -> Iterator[BagFrame | BagSignal]:
        """What belongs to a picture is read ahead, everything else handled in the order it was recorded."""
        if self._setup.asks_tf:  # first of all: the one that belongs to a picture is often recorded after it
            tree = self._transforms()
            self._frames = replace(self._frames, lookup=tree.lookup)
            self.twists.tree = tree
            self._builder = ObservationBuilder(self._frames, self._readers)
            if self._signals and self._setup.ee_pose_of_tf:
                self._moving = tree.moving(self._frames.base, self._frames.end_effector)
                self._names |= {topic: [role] for role, topic in self.roles.items() if role == "tf"}
        held: deque[_Held] = deque()
        for raw in self._bag.messages(set(self._names)):
            while held and held[0].offset_ns < raw.offset_ns - AHEAD_NS:
                yield from self._handle(held.popleft())
            self._now = raw.offset_ns * 1e-9
            try:
                message = self._bag.decode(raw)
            except DamagedMessageError as error:
                self._count_damage(raw.topic, str(error))
                continue
            if self._clock_jumps(raw.topic, message):
                while held:
                    yield from self._handle(held.popleft())
                self._forget()
            self._put_ahead(raw.topic, message)
            held.append(_Held(raw.topic, raw.offset_ns, message))
        while held:
            yield from self._handle(held.popleft())
        self._end()

    def _handle(self, one: _Held) -> Iterator[BagFrame | BagSignal]:
        message = one.message
        for role in self._names[one.topic]:
            if role == "instruction":
                self._instruct(message.data)
                continue
            if role == "tf":
                yield from self._signals_of_tf(message)
                continue
            stamp = stamp_ns(message.header) if hasattr(message, "header") else None
            if stamp is not None and is_stream(role):
                if is_camera_info(role):
                    self._put_info(role, message)
                elif role == "image":
                    self._store.put(role, message, stamp, 0)
                self._newest[role] = max(stamp, self._newest.get(role, stamp))
            if self._signals and role == TRAJECTORY:
                yield from self._points(message, stamp or self._newest_of_motion())
            elif self._signals and (signal := self._signal(role, message, stamp)):
                yield signal
            yield from self._complete()

    def _end(self) -> None:
        """Count what never became a frame."""
        self._store.end()
        self.unused.update(self._store.unmatched)
        topic = self.roles["image"]
        causes = {cause: count for cause, count in self.drops.items() if cause.startswith("image: ")}
        left = self._store.frames_received - self._taken - sum(causes.values())
        for cause, count in causes.items():
            if cause != UNMATCHED:
                self.unused.add(f"{topic} has a stamp that cannot be used: {cause.removeprefix('image: ')}", count)
        if left > 0:
            self.drops[UNMATCHED] += left
        self.drops.update(self._bag.lost)

    def _count_damage(self, topic: str, reason: str) -> None:
        self.drops[f"{topic}: damaged"] += 1
        if topic == self.roles["image"]:
            self.unused.add(reason)

    def _transforms(self) -> TransformTree:
        tree = TransformTree()
        names = {topic: role for role, topic in self.roles.items() if role in TRANSFORMS}
        for raw in self._bag.messages(set(names)):
            try:
                tree.add(self._bag.decode(raw).transforms, static=names[raw.topic] == "tf_static")
            except DamagedMessageError as error:
                self._count_damage(raw.topic, str(error))
        return tree

    def _instruct(self, words: str) -> None:
        if self._setup.split == "instruction" or words != self._instruction:
            self._begin()
        self._instruction = words

    def _begin(self) -> None:
        if not self._begins:  # nothing has been seen of this one yet otherwise
            self._episode, self._begins = self._episode + 1, True

    def _clock_jumps(self, topic: str, message: Any) -> bool:
        """Whether the stamp of a message that was read lies far behind one of its stream."""
        for role in self._names[topic]:
            if is_stream(role) and not is_camera_info(role):
                stamp, newest = stamp_ns(message.header), self._newest_ahead
                if stamp < newest.get(role, stamp) - CLOCK_JUMP_NS:
                    return True
                newest[role] = max(stamp, newest.get(role, stamp))
        return False

    def _forget(self) -> None:
        self.drops["clock jump: all that waited"] += 1
        self._store.flush()
        self._newest.clear()
        self._newest_ahead.clear()
        self.twists.forget()
        self._begin()
        for role, info in self._camera_infos.items():  # a driver may publish it once
            self._store.put(role, info, 0, 0)

    def _put_ahead(self, topic: str, message: Any) -> None:
        """To the synchronizer what belongs to pictures that were recorded before it, too."""
        for role in self._names[topic]:
            if is_camera_info(role) and role not in self._camera_infos:
                self._put_info(role, message)
            elif is_stream(role) and role != "image" and not is_camera_info(role):
                self._store.put(role, message, stamp_ns(message.header), 0)
            if role == "ee_pose" and self._signals and self._setup.ee_frame:
                pose = self._pose(message)
                if pose is not None:
                    self.twists.remember(stamp_ns(message.header), pose[OF_POSITION:])

    def _put_info(self, role: str, message: Any) -> None:
        self._camera_infos[role] = message
        self._store.put(role, message, 0, 0)

    def _signal(self, role: str, message: Any, stamp: int | None) -> BagSignal | None:
        at = stamp or self._newest_of_motion()
        if role == "twist":
            value = self.twists.velocity(message, stamp is not None, at)
        elif role == "gripper_command":
            value = np.array([self._commands.command(message.data)])
        elif role == "ee_pose":
            value = self._pose(message)
        elif role == "gripper":
            try:
                value = np.array([gripper_opening(message, self._readers.gripper)])
            except ConversionError:  # counted with its frame
                return None
        elif role == JOINTS and self._readers.joints and set(self._readers.joints) <= set(message.name):
            value = joint_positions(message, self._readers.joints)
        else:
            return None
        if value is None:
            return None
        if stamp and role == "twist":
            self._newest[role] = stamp
        if not np.isfinite(value[:OF_POSITION] if role == "ee_pose" else value).all():
            self.drops[f"{role}: not finite"] += 1
            return None
        return BagSignal(role, self._episode, at, value)

    def _newest_of_motion(self) -> int:
        return max((self._newest[r] for r in ("twist", "ee_pose", "gripper", JOINTS) if r in self._newest), default=0)

    def _points(self, message: Any, stamp: int) -> Iterator[BagSignal]:
        """Where the joints shall be and when, of a trajectory_msgs/JointTrajectory."""
        for point in message.points:
            positions = dict(zip(message.joint_names, point.positions))
            values = np.array([positions.get(name, np.nan) for name in self._readers.joints])
            if not len(values) or not np.isfinite(values).all():
                self.drops[f"{TRAJECTORY}: without a position of each of joint_names"] += 1
                return
            after = point.time_from_start
            yield BagSignal(TRAJECTORY, self._episode, stamp + after.sec * 10**9 + after.nanosec, values)

    def _pose(self, message: Any | None, stamp: int = 0) -> np.ndarray | None:
        """(7,) of a message, or, of None, of tf at a stamp; None: not known, which is counted with its frame."""
        if message is not None and message.header.frame_id == self._frames.base:
            at = message.pose.position
            position, turn = np.array([at.x, at.y, at.z]), orientation_of(message.pose.orientation)
        else:
            try:
                position, turn = end_effector_pose(message, stamp, self._frames)
            except ConversionError:
                return None
        return np.concatenate([position, np.full(4, np.nan) if turn is None else turn])

    def _signals_of_tf(self, message: Any) -> Iterator[BagSignal]:
        """Where the end effector was, at each stamp of a transform that tells it."""
        for one in message.transforms:
            stamp = stamp_ns(one.header)
            if one.child_frame_id in self._moving and stamp > self._newest.get("ee_pose", 0):
                pose = self._pose(None, stamp)
                if pose is not None:
                    self._newest["ee_pose"] = stamp
                    yield BagSignal("ee_pose", self._episode, stamp, pose)

    def _complete(self) -> Iterator[BagFrame]:
        """What has become complete."""
        while (matched := self._store.take(self._tolerance_ns)) is not None:
            self._taken += 1
            observation = self._observe(matched)
            if observation is not None:
                yield BagFrame(self._episode, self._begins, observation)
                self._begins = False

    def _observe(self, matched: MatchedMessages) -> Observation | None:
        if not self._instruction:
            self.refuse("before the first instruction", "before the first instruction (--instruction gives one)")
            return None
        try:
            observation = self._builder.build(matched, self._instruction)
        except ConversionError as error:
            self.refuse("no transform" if isinstance(error, TransformError) else "malformed", str(error))
            return None
        return with_own_images(observation)
