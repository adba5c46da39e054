"""Recorded calls out of bags: stretches of consecutive frames, each prepared once and kept in a file.

A pruner remembers, so the frames it is judged on must follow one another as they would live. What a bag has too much of
is left out by whole stretches, evenly over the bag; nothing but one stretch is in memory.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...bags.observations import BagFrame, BagFrames
from ...bags.reader import Bag
from ...bags.setup import BagSetup
from ...policy.base import NotReadyError, Policy
from ...types import Observation

STRETCH = 40  # frames; the first of them, which is a full call, is not counted
LEAST = 2  # frames: there is nothing to count in fewer


@dataclass(frozen=True)
class BagStretch:
    """Frames of a bag (``group``), in a file of this process's own making."""

    group: str
    seed: int
    path: Path
    frames: int

    def show(self, policy: Policy) -> tuple[str, Sequence[Any]]:
        """See ``RecordedEpisode``."""
        return pickle.loads(self.path.read_bytes())


class _Thinned:
    """Files of stretches, of all or of every second, fourth, ... so that there are never many more than asked for."""

    def __init__(self, bag: Path, folder: Path, most_frames: int) -> None:
        self._bag, self._folder, self._most = bag, folder, most_frames
        self._every = 1
        self._number = -1
        self._instruction = ""
        self._prepared: list[Any] = []
        self._kept: dict[int, BagStretch] = {}

    def begin(self, instruction: str) -> None:
        """A stretch begins here."""
        self._close()
        self._number += 1
        self._instruction = instruction

    @property
    def wanted(self) -> bool:
        """Whether frames of this stretch are."""
        return self._number % self._every == 0

    def add(self, prepared: Any) -> None:
        self._prepared.append(prepared)

    def _close(self) -> None:
        prepared, self._prepared = self._prepared, []
        if len(prepared) < LEAST:
            return
        path = self._folder / f"{self._number}.pickle"
        path.write_bytes(pickle.dumps((self._instruction, prepared)))
        self._kept[self._number] = BagStretch(str(self._bag), self._number, path, len(prepared))
        while sum(one.frames for one in self._kept.values()) > 2 * self._most and len(self._kept) > 1:
            self._every *= 2
            for number in [n for n in self._kept if n % self._every]:
                self._kept.pop(number).path.unlink()

    def end(self) -> list[BagStretch]:
        """At most ``most_frames`` in stretches evenly over what was read, one stretch at least."""
        self._close()
        kept = list(self._kept.values())
        for count in range(len(kept), 0, -1):
            chosen = [kept[i * len(kept) // count] for i in range(count)]
            if count == 1 or sum(one.frames for one in chosen) <= self._most:
                return chosen
        return []


def bag_stretches(
    path: Path, setup: BagSetup, policy: Policy, folder: Path, most_hz: float, most_frames: int,
    on_frame: Callable[[int, int], None], most_looked_at: int | None = None,
) -> tuple[list[BagStretch], dict[str, Any]]:  # fmt: skip
    """Stretches of a bag that the policy can be shown, in files of ``folder``, which is made.

    Args:
        most_hz: frames per second that are looked at; 0 looks at all. most_frames: at most so many are taken, two at
            least. on_frame: told how many pictures are done, and how many the bag has at most.
        most_looked_at: the bag is read no further once so many frames have been looked at; None reads all of it.

    Returns:
        The stretches; ready for JSON ``bag``, ``frames`` (that are taken), ``of`` (that were looked at), ``stretches``,
        ``period_s`` (median time between frames looked at), ``not_used`` and ``drops``.

    Raises:
        ValueError: the bag cannot be used, has no two frames in a row that can be acted on, or an instruction that the
            policy cannot follow.
    """
    folder.mkdir(parents=True)
    thinned, looked, length, last = _Thinned(path, folder, most_frames), 0, 0, 0
    periods: list[int] = []
    longest = max(LEAST, min(STRETCH, most_frames))
    with Bag(path) as bag:
        events = BagFrames(bag, setup)
        for done, event in enumerate(events, 1):
            on_frame(done, events.images)
            if not isinstance(event, BagFrame):
                continue
            stamp = event.observation.stamp_ns
            if most_hz and not event.begins and 0 <= stamp - last < 0.999e9 / most_hz:
                continue
            if looked == most_looked_at:
                break
            if event.begins or length == longest:
                policy.check_instruction(event.observation.instruction)
                thinned.begin(event.observation.instruction)
                length = 0
            elif stamp > last:
                periods.append(stamp - last)
            last, looked, length = stamp, looked + 1, length + 1
            if thinned.wanted and (prepared := _prepared(policy, event.observation, events)) is not None:
                thinned.add(prepared)
        stretches = thinned.end()
        if not stretches:
            why = events.unused.sentence(events.images) or "its episodes are shorter"
            raise ValueError(f"{path} has no {LEAST} frames in a row that the policy can act on: {why}")
        report = {
            "bag": str(path), "frames": sum(one.frames for one in stretches), "of": looked,
            "stretches": len(stretches), "period_s": float(np.median(periods or [0])) / 1e9,
            "not_used": events.unused.report(events.images), "drops": dict(sorted(events.drops.items())),
        }  # fmt: skip
    return stretches, report


def _prepared(policy: Policy, observation: Observation, events: BagFrames) -> Any | None:
    try:
        return policy.prepare(observation)
    except NotReadyError as error:
        events.refuse("not ready: too few points", str(error))
        return None
