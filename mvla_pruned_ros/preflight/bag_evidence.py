"""The same evidence from a bag: what its topics hold, and what observations they make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from ..bags.observations import BagFrame, BagFrames, is_stream
from ..bags.reader import Bag, BagMessage, DamagedMessageError
from ..bags.setup import TRANSFORM_TYPES, BagSetup, types_of
from ..messages.decode import stamp_ns
from ..observation.reasons import Reasons
from ..types import Observation
from .evidence import Arrivals, Evidence, Expected, Stream
from .topic_names import alternatives

MOST_FRAMES = 30  # observations that are made
TWIST = "twist: "  # begins causes for which a recorded command is no label


class Beginning:
    """The first seconds of a bag, in its place. Transforms are read to the end: a late one may hold for all time."""

    def __init__(self, bag: Bag, seconds: float) -> None:
        self._bag, self._until_ns = bag, round(seconds * 1e9)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bag, name)

    def messages(self, topics: set[str]) -> Iterator[BagMessage]:
        """See ``Bag``."""
        whole = all(self._bag.types.get(topic) in TRANSFORM_TYPES for topic in topics)
        for message in self._bag.messages(topics):
            if not whole and message.offset_ns > self._until_ns:
                return
            yield message


def evidence_of_bag(
    whole: Bag, setup: BagSetup, seconds: float
) -> tuple[Evidence, dict[str, str] | None, tuple[str, str]]:
    """Read the first seconds of a bag.

    Returns:
        The evidence; frame -> parent of its tf, None where that is not read; the instruction and where it comes from.
    """
    bag: Any = Beginning(whole, seconds)
    roles, _ = setup.roles(whole)
    streams = {role: topic for role, topic in roles.items() if is_stream(role)}
    arrivals = _arrivals(bag, streams)
    frames, problem, events, observation, built = None, "", None, None, 0
    try:
        frames = setup.frames()
        events = BagFrames(bag, setup, signals=True)
        observation, built = _newest(events)
    except ValueError as error:
        problem = str(error).partition("; it has:")[0] if events is None else ""
    tree = events.twists.tree if events is not None else None
    if tree is not None and frames is not None:
        frames = replace(frames, lookup=tree.lookup)
    refusals, drops = (events.unused, events.drops) if events is not None else (Reasons(), {})
    evidence = Evidence(
        expected=Expected(
            live=False, tolerance_s=setup.sync_tolerance_ms / 1e3, max_age_s=float("inf"), base_frame=setup.base_frame,
            camera_frame=setup.camera_frame, gripper=setup.readers().gripper, hand=any(setup.hand_frames),
            extrinsics_given=not setup.from_tf,
        ),
        streams={role: _stream(role, topic, whole, arrivals[role], drops) for role, topic in streams.items()},
        readers=setup.readers(),
        frames=frames,
        frames_problem=problem,
        images=len(arrivals["image"]),
        matched=built,
        built=built + refusals.total,
        refusals=refusals,
        observation=observation,
        twists={cause.removeprefix(TWIST): count for cause, count in drops.items() if cause.startswith(TWIST)},
    )  # fmt: skip
    return evidence, tree.parents() if tree is not None else None, _instruction(bag, setup, roles)


def _arrivals(bag: Any, streams: dict[str, str]) -> dict[str, Arrivals]:
    """By role; of topics of a wrong type nothing."""
    arrivals = {role: Arrivals.of(role) for role in streams}
    names: dict[str, list[str]] = {}
    for role, topic in streams.items():
        if bag.types.get(topic) in types_of(role):
            names.setdefault(topic, []).append(role)
    for raw in bag.messages(set(names)):
        try:
            message = bag.decode(raw)
        except DamagedMessageError:
            continue  # counted by who makes observations
        for role in names[raw.topic]:
            arrivals[role].add(message, stamp_ns(message.header), raw.offset_ns * 1e-9)
    return arrivals


def _newest(events: BagFrames) -> tuple[Observation | None, int]:
    """The last of the first observations, and how many were made."""
    observation, count = None, 0
    for event in islice((event for event in events if isinstance(event, BagFrame)), MOST_FRAMES):
        observation, count = event.observation, count + 1
    return observation, count


def _stream(role: str, topic: str, bag: Bag, arrivals: Arrivals, drops: Any) -> Stream:
    kinds, wanted = (bag.types[topic],) if topic in bag.types else (), types_of(role)
    found: list[tuple[str, str]] = []
    if not set(kinds) & set(wanted):
        found = alternatives(role, wanted, {name: (kind,) for name, kind in bag.types.items() if name != topic})
    prefix = f"{role}: "
    refused = {
        cause.removeprefix(prefix): count
        for cause, count in drops.items()
        if cause.startswith(prefix) and "unmatched" not in cause
    }
    return Stream(role, topic, wanted, kinds=kinds, arrivals=arrivals, refused=refused, alternatives=tuple(found))


def _instruction(bag: Any, setup: BagSetup, roles: dict[str, str]) -> tuple[str, str]:
    """Words, and where they come from."""
    if setup.instruction:
        return setup.instruction, "--instruction"
    topic = roles.get("instruction", "")
    if topic in bag.types and bag.types[topic] in types_of("instruction"):
        for raw in bag.messages({topic}):
            return str(bag.decode(raw).data), topic
    return "", topic
