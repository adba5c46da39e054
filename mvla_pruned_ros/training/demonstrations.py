"""Demonstrations as a policy learns from them: what it sees, and what was done next."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..configuration.files import written_whole
from ..policy.mvla.preprocess import PolicyInput


@dataclass
class Demonstrations:
    """Frames and the actions that followed.

    Attributes:
        image: (N, V, S, S, 3) uint8, the views. occupied: (N, patches) bool, whether a patch shows something in the
            workspace. centres: (N, G, 3) float32. groups: (N, G, K, 3) float16. colours: (N, G, 3) uint8,
            (N, 0, 3) for a policy that does not take them.
        proprio: (N, P) float32. end_effector: (N, 3) float32, metres. actions: (N, chunk, A) float32, physical units.
        goal: (N, 3) float32, metres, where the hand is when the gripper closes or opens next; NaN where it does not.
        instruction: (N,) str. frame: (N,) int32, the how manieth of its episode, from 0.
    """

    image: np.ndarray
    occupied: np.ndarray
    centres: np.ndarray
    groups: np.ndarray
    colours: np.ndarray
    proprio: np.ndarray
    end_effector: np.ndarray
    actions: np.ndarray
    goal: np.ndarray
    instruction: np.ndarray
    frame: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    @classmethod
    def of(
        cls, inputs: list[PolicyInput], actions: list[np.ndarray], instructions: list[str], numbers: Sequence[int],
        goal: np.ndarray | None = None,
    ) -> Demonstrations:  # fmt: skip
        """From frames as the policy sees them, each with its (chunk, A) actions, its instruction and its number in the
        episode. goal: (N, 3); None finds them in the episodes."""
        hands, frame = np.stack([f.end_effector for f in inputs]), np.array(numbers, np.int32)
        chunks = np.stack(actions)
        return cls(
            image=np.stack([f.image for f in inputs]),
            occupied=np.stack([np.isfinite(f.layout.image_positions[:, 0]) for f in inputs]),
            centres=np.stack([f.centres for f in inputs]),
            groups=np.stack([f.groups for f in inputs]).astype(np.float16),
            colours=np.stack([f.colours for f in inputs]),
            proprio=np.stack([f.proprio for f in inputs]),
            end_effector=hands,
            actions=chunks,
            goal=next_contacts(hands, chunks[:, 0, -1], frame) if goal is None else goal,
            instruction=np.array(instructions),
            frame=frame,
        )

    @classmethod
    def concatenate(cls, parts: list[Demonstrations]) -> Demonstrations:
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def save(self, path: Path) -> None:
        # A file object, because numpy would append .npz to the name.
        with written_whole(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, paths: list[Path]) -> Demonstrations:
        """All frames of some files, each file copied into place in turn: pictures fill gigabytes, once is enough."""
        names = [f.name for f in fields(cls)]
        lengths, arrays = [], {}
        for path in paths:
            with _opened(path) as file:
                lengths.append(len(file["proprio"]))
        for i, path in enumerate(paths):
            with _opened(path) as file:
                for name in names:
                    part = file[name]
                    if name == "instruction":
                        part = part.astype("U128")  # as wide as any instruction
                    if i == 0:
                        arrays[name] = np.empty((sum(lengths), *part.shape[1:]), part.dtype)
                    arrays[name][sum(lengths[:i]) : sum(lengths[: i + 1])] = part
        return cls(*(arrays[name] for name in names))


def next_contacts(hands: np.ndarray, gripper: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Where the hand is when its gripper closes or opens next, in the same episode.

    Args:
        hands: (N, 3) metres. gripper: (N,) commands, above 0 closes. frame: (N,) number in the episode.

    Returns:
        (N, 3) float32; NaN where the command stays to the end.
    """
    closed, goals = gripper > 0, np.full((len(hands), 3), np.nan, np.float32)
    for i in range(len(hands) - 2, -1, -1):
        if frame[i + 1] > frame[i]:
            goals[i] = goals[i + 1] if closed[i + 1] == closed[i] else hands[i + 1]
    return goals


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The arrays of a file; raises ValueError, with the remedy, for one that is cut or of another kind."""
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is no whole file of demonstrations ({error}): delete it, and it is recorded again"
        ) from error
