"""Demonstrations out of recorded bags, a file at a time: a recording of hours does not have to fit into memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..bags.labels import labelled, where_motion_comes_from
from ..bags.observations import BagFrames
from ..bags.reader import Bag
from ..bags.setup import BagSetup
from ..control.action_spaces import ActionForm
from ..policy.mvla.config import MVLAConfig
from ..policy.mvla.preprocess import NotReadyError, PolicyInput, prepare
from .demonstrations import Demonstrations

FRAMES_PER_FILE = 2000
UNLABELLED = "no commands for the whole chunk"
FORM = 4  # of the files and of what is put into them: those of another are made anew


def where_actions_come_from(roles: dict[str, str], form: ActionForm) -> str:
    """In words: the topics that tell motion and gripper command."""
    role = where_motion_comes_from(roles, form)
    moves = roles.get(role, "the end effector in tf")
    if role == "ee_pose" and not form.of_poses:
        moves = f"differences of {moves} (there is no twist)"
    grips = roles.get("gripper_command") or f"the opening in {roles['gripper']} (there is no gripper_command)"
    return f"{form.space.split('_')[1]} from {moves}, gripper from {grips}"


def bag_demonstrations(events: BagFrames, config: MVLAConfig, most_hz: float = 0.0) -> Iterator[Demonstrations]:
    """Frames of a bag whose whole chunk of actions was recorded, at most ``FRAMES_PER_FILE`` at a time.

    Args:
        events: with signals. config: image size, groups, workspace, chunk and step. most_hz: frames per second that are
            taken; 0 takes all.

    Raises:
        ValueError: the form of the actions does not fit the bag, or that has no frame to learn from.
    """
    form = config.actions
    if not form.of_joints:
        form.check_dim(config.action_dim)
    elif events.joints != config.action_dim - 1:
        raise ValueError(
            f"the policy's actions move {config.action_dim - 1} joints (action_dim without the gripper), joint_names "
            f"has {events.joints}: name the joints of the bag in the file of --bag-config"
        )
    inputs: list[PolicyInput] = []
    actions: list[np.ndarray] = []
    words: list[str] = []
    numbers: list[int] = []
    last, count, number = None, 0, 0
    for frame, label in labelled(events, events.roles, form, config.action_dim, config.chunk_size, config.step_s):
        stamp, number = frame.observation.stamp_ns, 0 if frame.begins else number
        if most_hz and not frame.begins and last is not None and 0 <= stamp - last < 0.999e9 / most_hz:
            continue
        if label is None:
            events.refuse(UNLABELLED, "no commands were recorded for the whole chunk after it")
            continue
        try:
            inputs.append(prepare(frame.observation, config))
        except NotReadyError as error:
            events.refuse("not ready: too few points in the workspace", str(error))
            continue
        actions.append(label)
        words.append(frame.observation.instruction)
        numbers.append(number)
        last, count, number = stamp, count + 1, number + 1
        if len(inputs) == FRAMES_PER_FILE:
            yield Demonstrations.of(inputs, actions, words, numbers)
            inputs, actions, words, numbers = [], [], [], []
    if inputs:
        yield Demonstrations.of(inputs, actions, words, numbers)
    if config.action_dim == 4 and events.twists.turning:
        events.drops["twist: angular velocity is not learned, its linear part is"] += events.twists.turning
    if not count:
        causes = "; ".join(f"{cause}: {number}" for cause, number in sorted(events.drops.items()))
        why = events.unused.sentence(events.images)
        raise ValueError(f"there is nothing to learn from in the bag: {causes}" + (f"; {why}" if why else ""))


def convert_bags(
    bags: Sequence[Path], setup: BagSetup, config: MVLAConfig, folder: Path, most_hz: float,
    on_bag: Callable[[Path, dict[str, Any]], None],
) -> list[Path]:  # fmt: skip
    """Bags as files of demonstrations. What was converted in the same way before is not converted again.

    Args:
        folder: where the files lie. on_bag: told the bag and, ready for JSON, ``files``, ``frames``, ``actions`` (where
            they come from), ``drops`` and ``not_used``.

    Returns:
        The files, in the order of the bags.
    """
    paths: list[Path] = []
    for path in bags:
        with Bag(path) as bag:
            events = BagFrames(bag, setup, signals=True)
            key = f"{path.resolve().name}-{_digest(path, setup, config, most_hz)}"
            done = folder / f"{key}.json"
            if not done.is_file():
                names = []
                frames = 0
                for i, part in enumerate(bag_demonstrations(events, config, most_hz)):
                    names.append(f"{key}-{i:03d}.npz")
                    part.save(folder / names[-1])
                    frames += len(part)
                report = {
                    "files": names, "frames": frames, "actions": where_actions_come_from(events.roles, config.actions),
                    "drops": dict(sorted(events.drops.items())), "not_used": events.unused.report(events.images),
                }  # fmt: skip
                done.write_text(json.dumps(report) + "\n")  # last: what it lists is whole
            report = json.loads(done.read_text())
            on_bag(path, report)
        paths += [folder / name for name in report["files"]]
    return paths


def _digest(path: Path, setup: BagSetup, config: MVLAConfig, most_hz: float) -> str:
    """Of everything that decides what a bag is converted to; of the bag, names, sizes and times of its files."""
    inside = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in inside]
    rest = [asdict(setup), most_hz, asdict(config)]
    return hashlib.sha256(json.dumps([FORM, files, rest], default=np.ndarray.tolist).encode()).hexdigest()[:12]
