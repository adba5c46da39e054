"""The newest messages of each stream, matched by header time. Nothing is converted here.

In the node callbacks of the executor put messages in and the worker takes matched sets out, the newest first. A bag
puts in what belongs to an image before the image itself, and takes every set. One lock guards everything; it is held
for dictionary work only.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ..messages.decode import stamp_ns
from .reasons import Reasons
from .streams import AFTER, FOLLOW_MOTION, INTERPOLATED, is_cloud, is_image, pose_near

FUTURE_TOLERANCE_NS = 200_000_000  # clocks of two computers may differ by this much
KEPT = 10  # images and clouds
KEPT_ARRIVALS = 400
PERIODS = 9  # of a stream, whose median tells when the next message is due
MOST_OTHERS = 30  # names of joints that are remembered to be told
JOINTS_FROM = {"gripper": "gripper_joint", "joint_states": "joint_names"}  # stream -> parameter
WAIT_NS = 12_000_000  # period of streams of which the message after an image is waited for, those of 80 Hz and more
KEPT_SMALL = 500  # poses come at up to 1 kHz, and the one of an image must still be there when the image arrives


@dataclass
class _Stream:
    messages: deque[tuple[int, Any, float]]  # header stamp, message, steady seconds of arrival
    last_stamp_ns: int = 0
    arrivals: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=KEPT_ARRIVALS))  # stamp, time
    heard_at: float | None = None  # steady clock
    refused: tuple[str, int, float] | None = None  # cause, stamp minus the node's time, steady clock
    others: dict[str, None] = field(default_factory=dict)  # joints of messages that were passed over
    passed_over_at: float = -math.inf  # steady clock

    def period_ns(self) -> int | None:
        """Median time between the newest stamps; None before the second message."""
        stamps = [s for s, _, _ in islice(reversed(self.messages), PERIODS + 1)]
        gaps = sorted(later - earlier for later, earlier in zip(stamps, stamps[1:]))
        return gaps[len(gaps) // 2] if gaps else None


def _closer_partner_expected(stamp: int, images: _Stream, stream: _Stream, follows_motion: bool) -> bool:
    """Whether the next message of a stream will be a closer partner for an image, and there before a newer image is."""
    last = stream.last_stamp_ns
    if last >= stamp:
        return False
    period, image_period = stream.period_ns(), images.period_ns()
    if period is None or image_period is None:
        return True
    if follows_motion and period <= WAIT_NS:  # the arm moved on: what lies after the image belongs to it, too
        return True
    until = last + period - stamp  # from the image to when the next message is due; negative: it is overdue
    return abs(until) < stamp - last and until <= image_period / 2


def _nearest_two(stamp: int, stream: _Stream, tolerance_ns: int) -> list[Any]:
    """The messages right before and right after a stamp, or the two nearest on one side of it; fewer where others are
    farther away than may be, or one has that stamp."""
    near = sorted((s, i) for i, (s, _, _) in enumerate(stream.messages) if abs(s - stamp) <= tolerance_ns)
    place = bisect(near, (stamp, -1))
    if place < len(near) and near[place][0] == stamp:
        return [stream.messages[near[place][1]][1]]
    start = min(max(place - 1, 0), max(len(near) - 2, 0))
    return [stream.messages[i][1] for _, i in near[start : start + 2]]


@dataclass(frozen=True)
class MatchedMessages:
    """Messages that belong to one image.

    Attributes:
        stamp_ns: of the image. messages: by stream; of those in ``INTERPOLATED``, where none has the image's own stamp,
            the one before the image and, with ``AFTER`` behind its name, the one after it, or the two nearest on one
            side. Where the hand carries
            sensors, also the poses around the stamp of each image and cloud (``pose_near``).
        received_at: steady seconds when the image arrived.
        oldest_ns: stamp of the oldest of them, unstamped streams left out.
    """

    stamp_ns: int
    messages: dict[str, Any]
    received_at: float
    oldest_ns: int


class Synchronizer:
    """Latest messages of the streams.

    Attributes:
        topics: stream -> resolved topic name, for diagnostics.
        drops: cause -> count of messages or sets that were not used.
        frames_received: images that arrived, used or not.
        unmatched: why images were passed over by ``take``.
        not_needed: streams that an observation does without.
    """

    def __init__(
        self, topics: dict[str, str], unstamped: tuple[str, ...] = (), clock: Callable[[], float] = time.monotonic,
        kept_s: float | None = None, joints: Mapping[str, Sequence[str]] | None = None, hand: bool = False,
    ) -> None:  # fmt: skip
        """
        Args:
            topics: ``image`` and others. unstamped: streams whose latest message is used whatever its stamp.
            clock: seconds that only go forward.
            kept_s: keep messages for so many seconds, instead of the newest ``KEPT`` and ``KEPT_SMALL``.
            joints: stream -> joints without all of which its messages are passed over: others come between.
            hand: the hand carries sensors: where it was is needed at the stamp of each image and cloud.
        """
        self._clock, self._kept_s, self._hand = clock, kept_s, hand
        self._joints = {name: tuple(filter(None, wanted)) for name, wanted in (joints or {}).items()}
        self.not_needed: frozenset[str] = frozenset()
        self.topics = topics
        self._unstamped = unstamped
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self.drops: Counter[str] = Counter()
        self.unmatched = Reasons()
        self._why: dict[int, str] = {}  # stamp of an image that waits -> what it waits for
        self.frames_received = 0
        self._interrupts = 0
        self._clear()

    def _clear(self) -> None:
        lengths: dict[str, int | None] = {n: KEPT_SMALL if n in INTERPOLATED else KEPT for n in self.topics}
        if self._kept_s is not None:
            lengths = dict.fromkeys(lengths)
        self._streams = {name: _Stream(deque(maxlen=most)) for name, most in lengths.items()}
        self._used_stamp_ns = -1
        self._pass_over(None)

    def flush(self) -> None:
        """Forget every message (clock jump, reset) but those of unstamped streams; counters stay.

        A camera info may be sent once, latched, and what it says does not depend on the time.
        """
        with self._lock:
            before = self._streams
            self._clear()
            for name, stream in before.items():
                if name in self._unstamped:
                    self._streams[name] = stream
                self._streams[name].heard_at = stream.heard_at
                self._streams[name].others = stream.others
                self._streams[name].passed_over_at = stream.passed_over_at
                self._streams[name].arrivals = stream.arrivals

    def put(self, name: str, message: Any, now_ns: int, max_age_ns: int) -> bool:
        """Take one message of a stream, or drop it, count why and return False. now_ns: node clock."""
        stamp = stamp_ns(message.header)
        with self._lock:
            stream = self._streams[name]
            if name in self._joints and not set(self._joints[name]) <= set(message.name):
                stream.passed_over_at = self._clock()
                if len(stream.others) < MOST_OTHERS:
                    stream.others.update(dict.fromkeys(message.name[:MOST_OTHERS]))
                return False
            if name == "image":
                self.frames_received += 1
            if not stream.arrivals or stream.arrivals[-1][0] != stamp:
                stream.arrivals.append((stamp, self._clock()))
            cause = self._refusal(name, stream, stamp, now_ns, max_age_ns)
            if cause:
                stream.refused = cause, stamp - now_ns, self._clock()
                self.drops[f"{name}: {cause}"] += 1
                return False
            stream.heard_at = self._clock()
            stream.last_stamp_ns = stamp
            stream.messages.append((stamp, message, stream.heard_at))
            while self._kept_s is not None and stream.messages[0][2] < stream.heard_at - self._kept_s:
                stream.messages.popleft()
            self._arrived.notify_all()
            return True

    def _refusal(self, name: str, stream: _Stream, stamp: int, now_ns: int, max_age_ns: int) -> str | None:
        if name in self._unstamped:
            return None
        if stamp == 0:
            return "zero stamp"
        if stamp > now_ns + FUTURE_TOLERANCE_NS:
            return "stamp in the future"
        if now_ns - stamp > max_age_ns:
            return "stale"
        if stamp == stream.last_stamp_ns and stream.messages:
            return "duplicate"
        if stamp < stream.last_stamp_ns:
            return "out of order"
        return None

    def count_drop(self, cause: str) -> None:
        with self._lock:
            self.drops[cause] += 1

    def wait(self, tolerance_ns: int, timeout_s: float) -> MatchedMessages | None:
        """The newest image that has not been used yet and has a partner in every stream, or None after a while.

        The messages of one instant arrive one after another. So an image waits, for at most the tolerance, until no
        stream can bring a closer partner any more: otherwise it would be matched with the depth of the frame before.
        It does not wait for a message that by the period of its stream will be farther off than the last one, or that
        comes when the next image nearly does: the clouds of a slow sensor serve several images, and each would be up to
        a cloud period older when it is used.
        An image that found no partners before the next image did is counted as unmatched.
        """
        until = time.monotonic() + timeout_s
        with self._lock:
            interrupts = self._interrupts
            while True:
                if self._interrupts != interrupts:
                    return None
                matched = self._match(tolerance_ns, patience_s=tolerance_ns * 1e-9)
                if matched is not None:
                    return matched
                left = until - time.monotonic()
                if left <= 0:
                    return None
                self._arrived.wait(min(left, tolerance_ns * 1e-9 + 1e-3))

    def take(self, tolerance_ns: int) -> MatchedMessages | None:
        """The oldest image that has not been used yet and has a partner in every stream, of what is there now.

        An image that had to be passed over for it is counted as unmatched, with the reason.
        """
        with self._lock:
            matched = self._match(tolerance_ns, newest=False)
            for stamp, *_ in self._streams["image"].messages:
                if stamp > self._used_stamp_ns and stamp not in self._why:
                    self._why[stamp] = self._missing(stamp, tolerance_ns)
            if matched is not None:
                self._why.pop(matched.stamp_ns, None)
                self._pass_over(matched.stamp_ns)
            return matched

    def end(self) -> None:
        """No message comes any more: images that wait are passed over."""
        with self._lock:
            self._pass_over(None)

    def _pass_over(self, before_ns: int | None) -> None:
        """Count why images were not matched: those older than a stamp, or all."""
        for stamp in [s for s in self._why if before_ns is None or s < before_ns]:
            self.unmatched.add(self._why.pop(stamp))

    def unmatched_reason(self, tolerance_ns: int) -> str | None:
        """What the newest image lacks, in words: the topics without a partner and how far off their stamps are.

        None: it lacks nothing, or there is no image.
        """
        with self._lock:
            images = self._streams["image"].messages
            return (self._missing(images[-1][0], tolerance_ns) or None) if images else None

    def _missing(self, stamp: int, tolerance_ns: int) -> str:
        words = []
        for name, stream in self._streams.items():
            if name == "image" or name in self.not_needed:
                continue
            if not stream.messages:
                words.append(f"nothing on {self.topics[name]}{self._others_of(name, stream)}")
                continue
            apart = min(abs(s - stamp) for s, _, _ in stream.messages)
            if name not in self._unstamped and apart > tolerance_ns:
                words.append(f"nearest {self.topics[name]} is {_seconds(apart)} away by its stamp")
        if any(word.startswith("nearest") for word in words):
            words.append(f"{_seconds(tolerance_ns)} are allowed (sync_tolerance_ms): are the clocks in step?")
        return ", ".join(words)

    def _others_of(self, name: str, stream: _Stream) -> str:
        """That what came has other joints than those that are wanted, in words; empty where nothing was passed over."""
        if stream.passed_over_at == -math.inf:
            return ""
        names = ", ".join(list(stream.others)[:MOST_OTHERS]) or "none with a name"
        missing = [joint for joint in self._joints[name] if joint not in stream.others]
        wanted = ", ".join(map(repr, missing or self._joints[name]))  # each may come, but never all together
        return f" with joint {wanted} ({JOINTS_FROM[name]}), only messages with these: {names}"

    def _match(self, tolerance_ns: int, newest: bool = True, patience_s: float = 0.0) -> MatchedMessages | None:
        images = self._streams["image"].messages
        now = self._clock()
        for stamp, image, arrived_at in reversed(images) if newest else images:
            if stamp <= self._used_stamp_ns:
                continue
            found, oldest = {"image": image}, stamp
            patient = now - arrived_at < patience_s
            for name, stream in self._streams.items():
                if name == "image" or name in self.not_needed or not stream.messages:
                    continue
                if name in self._unstamped:
                    found[name] = stream.messages[-1][1]
                    continue
                if patient and _closer_partner_expected(stamp, self._streams["image"], stream, name in FOLLOW_MOTION):
                    continue
                nearest, message = min(((s, m) for s, m, _ in stream.messages), key=lambda x: abs(x[0] - stamp))
                if abs(nearest - stamp) > tolerance_ns:
                    continue
                found[name], oldest = message, min(oldest, nearest)
                if name in INTERPOLATED and nearest != stamp:
                    near = _nearest_two(stamp, stream, tolerance_ns)
                    found |= {name + end: message for end, message in zip(("", AFTER), near)}
            if self._streams.keys() - self.not_needed <= found.keys():
                skipped = sum(self._used_stamp_ns < s < stamp for s, _, _ in images)
                if skipped:
                    self.drops["image: superseded or unmatched"] += skipped
                self._used_stamp_ns = stamp
                if self._hand and "ee_pose" in found:
                    found |= self._poses_of_the_hand(found, tolerance_ns)
                return MatchedMessages(stamp, found, arrived_at, oldest)
        return None

    def _poses_of_the_hand(self, found: Mapping[str, Any], tolerance_ns: int) -> dict[str, Any]:
        """The poses around the stamp of each image and cloud that ``ee_pose`` and the one after it are not around."""
        image, more = stamp_ns(found["image"].header), dict[str, Any]()
        known = "ee_pose" + AFTER in found or stamp_ns(found["ee_pose"].header) == image
        for name in found:
            stamp = stamp_ns(found[name].header)
            if (is_image(name) or is_cloud(name)) and not (known and stamp == image):
                near = _nearest_two(stamp, self._streams["ee_pose"], tolerance_ns)
                more |= {pose_near(name) + end: message for end, message in zip(("", AFTER), near)}
        return more

    def ages_s(self) -> dict[str, float | None]:
        """Seconds of steady time since each stream was last heard; None for never."""
        now = self._clock()
        with self._lock:
            return {n: None if s.heard_at is None else now - s.heard_at for n, s in self._streams.items()}

    def arrived(self, name: str, seconds: float) -> int:
        """How many messages of a stream came within the last seconds, used or not; none where there is no stream."""
        since = self._clock() - seconds
        with self._lock:
            stream = self._streams.get(name)
            return 0 if stream is None else sum(at >= since for _, at in stream.arrivals)

    def silent(self, max_age_s: float) -> list[str]:
        """Topics of streams not heard for longer than ``max_age_s``, or never. Unstamped ones: only if never."""
        return [self.topics[name] for name in self._silent(max_age_s)]

    def silence(self, max_age_s: float) -> str:
        """The same in words, and of messages that come and are refused for their stamps, how far off these are."""
        return ", ".join(self.silence_by_stream(max_age_s).values())

    def silence_by_stream(self, max_age_s: float) -> dict[str, str]:
        """The words of ``silence`` for each silent stream: its topic, and why what comes on it is not used."""
        words = {}
        with self._lock:
            refused = {name: stream.refused for name, stream in self._streams.items()}
            now = self._clock()
            others = {
                name: self._others_of(name, stream)
                for name, stream in self._streams.items()
                if now - stream.passed_over_at <= max_age_s
            }
        for name in self._silent(max_age_s):
            words[name] = self.topics[name] + others.get(name, "")
            cause, offset_ns, at = refused[name] or ("", 0, -math.inf)
            if self._clock() - at <= max_age_s:
                apart = f"{_seconds(abs(offset_ns))} {'ahead of' if offset_ns > 0 else 'behind'} this computer's clock"
                words[name] += f" (messages come, but are refused: {cause}, {apart})"
        return words

    def _silent(self, max_age_s: float) -> list[str]:
        return [
            name for name, age in self.ages_s().items()
            if name not in self.not_needed and (age is None or (age > max_age_s and name not in self._unstamped))
        ]  # fmt: skip

    def interrupt(self) -> None:
        """End a ``wait`` under way."""
        with self._lock:
            self._interrupts += 1
            self._arrived.notify_all()


def _seconds(ns: int) -> str:
    """A duration as it is read best."""
    return f"{ns / 1e9:.2f} s" if ns >= 1_000_000_000 else f"{ns / 1e6:.0f} ms"
