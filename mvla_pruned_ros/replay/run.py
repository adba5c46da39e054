"""A bag from end to end: read, compare, write."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..bags.labels import labelled
from ..bags.observations import BagFrame, BagFrames
from ..bags.reader import Bag
from ..bags.setup import BagSetup
from ..configuration.files import write_json
from ..control.action_spaces import ActionForm
from ..policy.base import Policy
from ..policy.engine.machine import machine
from ..pruning.base import Pruner
from ..viewer.calls import Call
from ..viewer.target import showing
from .annotated import Annotations, overlay_of
from .compare import Totals, compare
from .page import draw_page

PICTURES = 6


def replay(
    bag: Bag, setup: BagSetup, policy: Policy, pruner: Pruner, about: dict[str, Any], out: Path, *,
    on_frame: Callable[[int, int], None], most_frames: int | None = None, annotate: bool = True, view: str = "",
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """Write ``replay.json``, ``frames.jsonl``, ``timings.json``, ``replay.html`` and the bag ``annotated`` to a folder.

    The first two have nothing in them that changes from run to run. Returns what is in replay.json and timings.json.

    Args:
        about: policy, method, keep_asked and what else names the run. most_frames: stop after so many.
        on_frame: told how many frames are done, and how many there are at most. view: see ``viewer.target``; what
            is shown are the pruned calls.

    Raises:
        ValueError: the bag cannot be used, or the policy cannot follow its instructions.
    """
    events = BagFrames(bag, setup, signals=True)
    total = min(events.images, most_frames or events.images)
    shown = set(np.linspace(0, total - 1, PICTURES).round().astype(int).tolist()) if total else set()
    totals, pictures = Totals(), []
    start = time.monotonic()
    frames = _frames(events, policy)
    with contextlib.ExitStack() as stack:
        notes = None
        if annotate:
            notes = Annotations(out / "annotated", setup.base_frame, setup.camera_frame)
            stack.enter_context(notes)
        show = stack.enter_context(showing(view, ActionForm.of(policy)))
        rows = stack.enter_context((out / "frames.jsonl").open("w"))
        for i, comparison in enumerate(islice(compare(frames, policy, pruner, events.refuse), most_frames)):
            row = totals.add(comparison)
            rows.write(json.dumps(row) + "\n")
            if notes is not None:
                notes.add(comparison, row)
            show(Call(comparison.observation, comparison.pruned))
            if i in shown:
                seconds = row["stamp_ns"] / 1e9 - totals.columns["time_s"][0]
                pictures.append((f"{seconds:.2f} s: {comparison.observation.instruction}", overlay_of(comparison)))
            on_frame(i + 1, total)
    numbers, why = _numbers(bag, about, events, totals), events.unused.sentence(events.images)
    whole = most_frames is None or most_frames >= events.images
    timings = _timings(totals, bag.duration_s, time.monotonic() - start, whole)
    write_json(out / "replay.json", numbers, allow_nan=False)
    write_json(out / "timings.json", timings)
    (out / "replay.html").write_text(draw_page(numbers, timings, totals, pictures, why), encoding="utf-8")
    return numbers, timings


def _frames(events: BagFrames, policy: Policy) -> Iterator[tuple[BagFrame, np.ndarray | None]]:
    """Frames with the actions that were recorded from them on, None where the bag has no commands or too few."""
    if "twist" in events.roles:
        return labelled(
            events, events.roles, ActionForm.of(policy), policy.action_dim, policy.chunk_size, policy.step_s
        )
    return ((event, None) for event in events if isinstance(event, BagFrame))


def _numbers(bag: Bag, about: dict[str, Any], events: BagFrames, totals: Totals) -> dict[str, Any]:
    """What is in replay.json. Raises ValueError when no frame could be acted on."""
    if not totals.errors.count:
        raise ValueError(f"no frame of {bag.folder} could be acted on: {events.unused.sentence(events.images)}")
    return {
        "bag": str(bag.folder),
        **about,
        "topics": events.roles,
        **totals.summary(),
        "drops": dict(sorted(events.drops.items())),
        "not_used": events.unused.report(events.images),
    }


def _timings(totals: Totals, bag_s: float, replay_s: float, whole: bool) -> dict[str, Any]:
    """What is in timings.json. whole: the bag was replayed to its end, so that its time can be compared."""
    columns = {name: np.array(totals.columns[name]) for name in ("prepare_ms", "pruned_ms", "full_ms")}
    return {
        "machine": machine(),
        "bag_s": bag_s,
        "replay_s": replay_s,
        "times_real_time": bag_s / replay_s if whole else None,
        **{
            name: dict(zip(("p50", "p95"), np.percentile(values, [50, 95]).round(3).tolist()))
            for name, values in columns.items()
        },
    }
