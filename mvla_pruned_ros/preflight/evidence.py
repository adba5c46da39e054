"""What was seen of a robot's topics, on the live graph or in a bag: plain data for the checks."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..messages.decode import Readers
from ..messages.gripper import GripperJoint
from ..observation.frames import Frames
from ..observation.reasons import Reasons
from ..observation.streams import INTERPOLATED
from ..types import Observation

KEPT_SMALL = 2000  # messages of pose, gripper and joints


@dataclass(frozen=True)
class Endpoint:
    """One publisher or subscription of another node. node: full name. kind: ``package/msg/Name``. qos: in words."""

    node: str
    kind: str
    qos: str = ""


class Arrivals:
    """Messages of one stream as they arrive.

    Attributes:
        stamps_ns: of their headers. times_s: when they came, on a clock that only goes forward, or when they were
            recorded. ages_s: the node's clock minus the stamp. messages: the newest; of small streams, those before it
            too.
    """

    def __init__(self, small: bool) -> None:
        self.stamps_ns: list[int] = []
        self.times_s: list[float] = []
        self.ages_s: list[float] = []
        self.messages: deque[Any] = deque(maxlen=KEPT_SMALL if small else 1)

    @classmethod
    def of(cls, stream: str) -> Arrivals:
        """For a stream of an observation."""
        return cls(stream in INTERPOLATED)

    def add(self, message: Any, stamp_ns: int, time_s: float, now_ns: int | None = None) -> None:
        """Args: now_ns: of the node's clock; None: there is none, as in a bag."""
        self.stamps_ns.append(stamp_ns)
        self.times_s.append(time_s)
        if now_ns is not None:
            self.ages_s.append((now_ns - stamp_ns) * 1e-9)
        self.messages.append(message)

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def rate_hz(self) -> float:
        """Messages per second, NaN for fewer than two."""
        span = self.times_s[-1] - self.times_s[0] if len(self) > 1 else 0.0
        return (len(self) - 1) / span if span > 0 else float("nan")

    @property
    def longest_gap_s(self) -> float:
        """Between two that follow each other; 0 for fewer than two."""
        return float(np.diff(self.times_s).max()) if len(self) > 1 else 0.0


@dataclass(frozen=True)
class Stream:
    """What is known of one stream.

    Attributes:
        name: as ``image`` or ``camera_info``. topic: its resolved name. wanted: types that it may have.
        private: the name, without ``~/``, that is remapped to the topic.
        kinds: types found on that topic; none: nobody publishes it. publishers: of the live graph.
        links: what is wrong with the connection, in the words of ``node/qos_checks``.
        arrivals: what came. refused: cause -> how many were not taken (``Synchronizer.drops``).
        silence: why nothing is used, in the words of the synchronizer. alternatives: other topics with a type that
            would do, the likeliest first; those that need another transport have it behind them.
    """

    name: str
    topic: str
    wanted: tuple[str, ...]
    private: str = ""
    kinds: tuple[str, ...] = ()
    publishers: tuple[Endpoint, ...] = ()
    links: tuple[str, ...] = ()
    arrivals: Arrivals = field(default_factory=lambda: Arrivals(small=False))
    refused: Mapping[str, int] = field(default_factory=dict)
    silence: str = ""
    alternatives: tuple[tuple[str, str], ...] = ()

    @property
    def newest(self) -> Any:
        """The last message, None before the first."""
        return self.arrivals.messages[-1] if self.arrivals.messages else None


@dataclass(frozen=True)
class Expected:
    """What the parameters say.

    Attributes:
        live: a graph is looked at, and not a bag. tolerance_s, max_age_s: sync_tolerance_ms, max_observation_age_ms.
        workspace: (3,) lower and upper corner in which the arm may move, metres, base frame; None: of a bag.
        base_frame, camera_frame: names. gripper: its joint. hand: cameras are on the hand.
        extrinsics_given: poses come from parameters, not from tf.
    """

    live: bool
    tolerance_s: float
    max_age_s: float
    base_frame: str
    camera_frame: str
    gripper: GripperJoint
    hand: bool = False
    extrinsics_given: bool = True
    workspace: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def remap(self, name: str, topic: str) -> str:
        """The argument that connects a stream with a topic. Args: name: ``Stream.private``; of a bag, the role."""
        return f"-r '~/{name}:={topic}'" if self.live else f"--remap {name}:={topic}"


@dataclass(frozen=True)
class Evidence:
    """All that was seen of the sensors.

    Attributes:
        streams: by name. readers: of messages. frames: where sensors are; None: not known, for ``frames_problem``.
        images: pictures that came. matched: those with all that belongs to them. built: observations that were tried
            of these, of which ``refusals`` were refused.
        unmatched: what the newest picture lacks, in the words of the synchronizer; empty when nothing.
        observation: the newest that could be made. twists: cause -> how many recorded commands of a bag are no label.
    """

    expected: Expected
    streams: Mapping[str, Stream]
    readers: Readers
    frames: Frames | None
    frames_problem: str = ""
    images: int = 0
    matched: int = 0
    built: int = 0
    refusals: Reasons = field(default_factory=Reasons)
    unmatched: str = ""
    observation: Observation | None = None
    twists: Mapping[str, int] = field(default_factory=dict)
