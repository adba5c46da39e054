"""A bag followed call by call: what the policy node did when it was recorded, done again with the same core.

The node says of each call which messages it used, what was in force and what came out (``CallRecord``). Here the same
messages go through ``observation_of`` and ``PolicyRuntime.infer``, with a reset where the node had one, so that the
pruner's history is the node's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bags.observations import with_own_images
from ..bags.reader import Bag, DamagedMessageError
from ..messages.decode import MILLIMETRE, ConversionError, Readers, stamp_ns
from ..observation.builder import observation_of
from ..observation.frames import Frames, TransformError, of_the_hand
from ..observation.streams import is_camera_info
from ..policy.base import Policy
from ..policy.call_record import CallRecord
from ..policy.mvla.preprocess import NotReadyError
from ..policy.runtime import PolicyRuntime
from ..pruning.methods import make_pruner
from ..pruning.tri_stage.config import TriStageConfig
from ..pruning.tri_stage.pruner import TriStagePruner
from ..types import Observation

TOPIC_END = "/call"
TEXT = "std_msgs/msg/String"
GRACE_NS = 2_000_000_000  # a large message may reach the recorder after the call that used it


@dataclass(frozen=True)
class FollowedCall:
    """One call, twice.

    Attributes:
        record: of the live node. actions, kept: what came out here, in the shapes of the record's.
    """

    record: CallRecord
    actions: np.ndarray
    kept: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """(A,) largest absolute difference over the chunk, in units of the action."""
        return np.abs(self.actions.astype(np.float64) - self.record.actions).max(0)

    @property
    def tokens_apart(self) -> int:
        """Visual tokens that stayed in one of the two calls only."""
        if self.kept.shape != self.record.kept.shape:
            return max(len(self.kept), len(self.record.kept))
        return int((self.kept != self.record.kept).sum())


class RecordedCalls:
    """The calls of a bag, with the observations that they were made with.

    Attributes:
        topic: of the records. records: all of them, in order, with the time after the bag's beginning, nanoseconds.
    """

    def __init__(self, bag: Bag) -> None:
        """
        Raises:
            ValueError: the bag has no records, or those of several nodes, or some cannot be read.
        """
        topics = [t for t, kind in bag.types.items() if kind == TEXT and t.endswith(TOPIC_END) and bag.counts[t]]
        if not topics:
            raise ValueError(
                f"{bag.folder} has no records of policy calls: record the policy node's ~/call ({TEXT}) with the "
                f"topics of its sensors, as `mvla record` does; it has {', '.join(sorted(bag.types)) or 'no topic'}"
            )
        if len(topics) > 1:
            raise ValueError(f"{bag.folder} has calls of several policy nodes, {', '.join(sorted(topics))}: record one")
        self.topic = topics[0]
        self._bag = bag
        self.records = [
            (message.offset_ns, CallRecord.from_json(bag.decode(message).data)) for message in bag.messages(set(topics))
        ]

    def observations(self) -> Iterator[tuple[CallRecord, Observation | str]]:
        """Each call with what was seen, or with the cause why that is not known. One pass over the bag."""
        needed = Counter(key for _, record in self.records for key in record.inputs.values())
        held: dict[tuple[str, int], Any] = {}
        last: dict[str, int] = {}
        waiting = iter(self.records)
        head = next(waiting, None)

        def answer(record: CallRecord) -> tuple[CallRecord, Observation | str]:
            found = {stream: held.get(key) for stream, key in record.inputs.items()}
            lost = [record.inputs[stream][0] for stream, message in found.items() if message is None]
            result: Observation | str = f"not in the bag: {', '.join(lost)}" if lost else _observation(record, found)
            for key in record.inputs.values():
                needed[key] -= 1
                if not needed[key]:
                    held.pop(key, None)
            return record, result

        unstamped = {topic for _, record in self.records for stream, (topic, _) in record.inputs.items()
                     if is_camera_info(stream)}  # fmt: skip
        joints = {
            record.inputs["gripper"][0]: record.gripper for _, record in self.records if "gripper" in record.inputs
        }
        for raw in self._bag.messages({topic for topic, _ in needed}):
            while head is not None and head[0] + GRACE_NS < raw.offset_ns:
                yield answer(head[1])
                head = next(waiting, None)
            try:
                message = self._bag.decode(raw)
            except DamagedMessageError:
                continue  # is missing in the calls that used it
            if raw.topic in joints and joints[raw.topic].is_elsewhere(message):
                continue  # the node passed it over
            key = raw.topic, stamp_ns(message.header)
            again = last.get(raw.topic) == key[1] and raw.topic not in unstamped  # the node drops a duplicate
            last[raw.topic] = key[1]
            if needed[key] and not again:
                held[key] = message
        while head is not None:
            yield answer(head[1])
            head = next(waiting, None)


def _observation(record: CallRecord, messages: Mapping[str, Any]) -> Observation | str:
    answers = {(frame, stamp): pose for frame, stamp, pose in record.transforms}

    def lookup(target: str, source: str, stamp_ns: int) -> np.ndarray:
        try:
            return answers[source, stamp_ns]
        except KeyError:
            raise TransformError(f"the record does not say where {source!r} was at {stamp_ns / 1e9:.3f} s") from None

    reading = record.reading
    still, hand = of_the_hand(record.poses, reading.get("hand_frames", ()))
    frames = Frames(record.base_frame, record.camera_frame, still, lookup, reading.get("ee_frame", ""), hand)
    readers = Readers(
        gripper=record.gripper, depth_unit_m=reading.get("depth_unit_m", MILLIMETRE),
        joints=tuple(reading["joint_names"]) if "joint_states" in messages else (),
    )  # fmt: skip
    try:
        seen = observation_of(record.stamp_ns, messages, record.instruction, frames, None, readers, record.last_command)
    except ConversionError as error:
        return f"refused here: {error}"
    return with_own_images(seen)


def follow(calls: RecordedCalls, policy: Policy, skipped: Counter[str]) -> Iterator[FollowedCall]:
    """The calls of a bag made again, in order.

    A call whose history is not known in full (its episode began before the recording, or a call of it is missing) is
    not made: nothing could be said of it.

    Args:
        skipped: counts here, by cause, the calls that were not made.

    Raises:
        ValueError: the policy cannot follow an instruction of the bag.
    """
    runtime, made_with = PolicyRuntime(policy, make_pruner("none", 1.0)), None
    expected: int | None = None  # calls since the reset, of the next one; None: the history is not known
    begun = False
    for record, seen in calls.observations():
        if record.since_reset == 0:
            expected, begun = 0, True
        elif record.since_reset != expected:
            expected = None
            skipped["after a call that is missing" if begun else "before the first reset in the bag"] += 1
            continue
        if isinstance(seen, str):
            skipped[seen] += 1
            expected = None
            continue
        config = None if record.tri_stage is None else TriStageConfig(**record.tri_stage)
        if made_with != (record.method, record.seed):
            runtime.pruner = make_pruner(record.method, record.keep_ratio, config, record.seed)
            made_with = record.method, record.seed
        if record.method != "none":
            runtime.pruner.keep_ratio = record.keep_ratio
        if isinstance(runtime.pruner, TriStagePruner) and config is not None:
            runtime.pruner.config = config
        runtime.prune = record.prune
        if record.since_reset == 0:
            runtime.reset()
        try:
            inference = runtime.infer(seen)
        except NotReadyError as error:
            skipped[f"not ready here: {error}"] += 1
            expected = None
            continue
        expected = record.since_reset + 1
        yield FollowedCall(record, inference.chunk.actions, inference.selection.kept)
