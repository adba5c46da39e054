"""Observations and recorded commands of a bag, in the order they were recorded, as the policy node would see them.

One pass, nothing but the newest messages in memory. Conversion and matching are those of the node (``messages``,
``observation``); where the node takes the newest image that is complete, every complete image is taken here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..messages.decode import ConversionError, gripper_opening, stamp_ns
from ..observation.builder import ObservationBuilder
from ..observation.frames import TransformError
from ..observation.streams import is_camera_info, is_cloud
from ..observation.synchronizer import MatchedMessages, Synchronizer
from ..types import Observation
from .reader import Bag
from .setup import TRANSFORMS, BagSetup
from .tf_tree import TransformTree

CLOCK_JUMP_NS = 1_000_000_000  # a stamp that lies back by more begins an episode


def is_stream(role: str) -> bool:
    """Whether an observation is made of a role's messages."""
    return role in ("image", "ee_pose", "gripper") or is_cloud(role) or is_camera_info(role)


def with_own_image(observation: Observation) -> Observation:
    """The same with an image that may be written to: the bag's own memory may not, and torch warns of that."""
    if observation.image.flags.writeable:
        return observation
    return replace(observation, image=observation.image.copy())


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
        role: twist, gripper_command, ee_pose or gripper. episode: 0 for the first.
        stamp_ns: of its header; of a message without one, the newest seen before it on any topic but the pictures'.
        value: velocity (3,) m/s; command (1,) -1 open to 1 close; position (3,) m; opening (1,) 0..1.
    """

    role: str
    episode: int
    stamp_ns: int
    value: np.ndarray


class BagFrames:
    """Iterate once.

    Attributes:
        roles: role -> topic of what is read.
        images: how many pictures the bag has, at least as many as frames will come.
        drops: cause -> count of messages and pictures that were not used, complete after the iteration.
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
        self._builder = ObservationBuilder(setup.frames())
        self.images = bag.counts[self.roles["image"]]
        self._names: dict[str, list[str]] = {}  # two cameras may share a camera info
        for role, topic in self.roles.items():
            if role not in TRANSFORMS:
                self._names.setdefault(topic, []).append(role)
        self._now = 0.0
        streams = {role: topic for role, topic in self.roles.items() if is_stream(role)}
        infos = tuple(filter(is_camera_info, streams))
        self._store = Synchronizer(streams, unstamped=infos, clock=lambda: self._now)
        self.drops = self._store.drops
        self._refused, self._taken = "", 0
        self._episode, self._begins = 0, True
        self._instruction = setup.instruction
        self._newest: dict[str, int] = {}
        self._camera_infos: dict[str, Any] = {}

    def __iter__(self) -> Iterator[BagFrame | BagSignal]:
        count = 0
        for event in self._events():
            count += isinstance(event, BagFrame)
            yield event
        if not count:
            causes = "; ".join(f"{cause}: {number}" for cause, number in sorted(self.drops.items())) or "no picture"
            last = f"; the last message was refused because: {self._refused}" if self._refused else ""
            raise ValueError(f"no frame of {self._bag.folder} can be used: {causes}{last}")

    def _events(self) -> Iterator[BagFrame | BagSignal]:
        if self._setup.from_tf:  # first of all: the one that belongs to a picture is often recorded after it
            self._builder = ObservationBuilder(replace(self._setup.frames(), lookup=self._transforms().lookup))
        for raw in self._bag.messages(set(self._names)):
            self._now = raw.offset_ns * 1e-9
            yield from self._complete()  # pictures that have waited long enough by now
            message = self._bag.decode(raw)
            for role in self._names[raw.topic]:
                if role == "instruction":
                    self._instruct(message.data)
                    continue
                stamp = stamp_ns(message.header) if hasattr(message, "header") else None
                if stamp is not None and is_stream(role):
                    self._put(role, message, stamp)
                if self._signals and (signal := self._signal(role, message, stamp)):
                    yield signal
                yield from self._complete()
        self._now = math.inf
        yield from self._complete()
        causes = sum(count for cause, count in self.drops.items() if cause.startswith("image: "))
        left = self._store.frames_received - self._taken - causes
        if left > 0:
            self.drops["image: superseded or unmatched"] += left

    def _transforms(self) -> TransformTree:
        tree = TransformTree()
        names = {topic: role for role, topic in self.roles.items() if role in TRANSFORMS}
        for raw in self._bag.messages(set(names)):
            tree.add(self._bag.decode(raw).transforms, static=names[raw.topic] == "tf_static")
        return tree

    def _instruct(self, words: str) -> None:
        if self._setup.split == "instruction" or words != self._instruction:
            self._begin()
        self._instruction = words

    def _begin(self) -> None:
        if not self._begins:  # nothing has been seen of this one yet otherwise
            self._episode, self._begins = self._episode + 1, True

    def _put(self, role: str, message: Any, stamp: int) -> None:
        if not is_camera_info(role):
            if stamp < self._newest.get(role, stamp) - CLOCK_JUMP_NS:
                self.drops["clock jump: all that waited"] += 1
                self._store.flush()
                self._newest.clear()
                self._begin()
                for name, info in self._camera_infos.items():  # a driver may publish it once
                    self._store.put(name, info, 0, 0)
            self._newest[role] = max(stamp, self._newest.get(role, stamp))
        else:
            self._camera_infos[role] = message
        self._store.put(role, message, stamp, 0)

    def _signal(self, role: str, message: Any, stamp: int | None) -> BagSignal | None:
        if role == "twist":
            linear = (message.twist if stamp is not None else message).linear
            value = np.array([linear.x, linear.y, linear.z])
        elif role == "gripper_command":
            value = np.clip([message.data], -1.0, 1.0)
        elif role == "ee_pose":
            position = message.pose.position
            value = np.array([position.x, position.y, position.z])
        elif role == "gripper":
            try:
                value = np.array([gripper_opening(message)])
            except ConversionError:  # counted with its frame
                return None
        else:
            return None
        if not stamp:
            stamp = max((self._newest[r] for r in ("twist", "ee_pose", "gripper") if r in self._newest), default=0)
        elif role == "twist":
            self._newest[role] = stamp
        if not np.isfinite(value).all():
            self.drops[f"{role}: not finite"] += 1
            return None
        return BagSignal(role, self._episode, stamp, value)

    def _complete(self) -> Iterator[BagFrame]:
        """What has become complete."""
        while (matched := self._store.take(round(self._setup.sync_tolerance_ms * 1e6))) is not None:
            self._taken += 1
            observation = self._observe(matched)
            if observation is not None:
                yield BagFrame(self._episode, self._begins, observation)
                self._begins = False

    def _observe(self, matched: MatchedMessages) -> Observation | None:
        if not self._instruction:
            self.drops["before the first instruction"] += 1
            return None
        try:
            observation = self._builder.build(matched, self._instruction)
        except ConversionError as error:
            self.drops["no transform" if isinstance(error, TransformError) else "malformed"] += 1
            self._refused = str(error)
            return None
        return with_own_image(observation)
