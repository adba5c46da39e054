"""Demonstrations of the scripted experts, recorded from the simulated robot as the policy will see it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ..policy.config import MVLAConfig
from ..policy.inputs import prepare
from ..sim.robot import MAX_SPEED, SimulatedRobot

OBSERVE_EVERY = 2  # steps between recorded frames


@dataclass
class Demonstrations:
    """Frames and the expert's next actions.

    Attributes:
        image: (N, S, S, 3) uint8. centres: (N, G, 3) float32. groups: (N, G, K, 3) float16.
        proprio: (N, P) float32. actions: (N, chunk, A) float32, physical units.
        instruction: (N,) str.
    """

    image: np.ndarray
    centres: np.ndarray
    groups: np.ndarray
    proprio: np.ndarray
    actions: np.ndarray
    instruction: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    @classmethod
    def concatenate(cls, parts: list[Demonstrations]) -> Demonstrations:
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:  # a file object: numpy would append .npz to the name
            np.savez(file, **{f.name: getattr(self, f.name) for f in fields(self)})
        partial.rename(path)  # a file that exists is whole

    @classmethod
    def load(cls, paths: list[Path]) -> Demonstrations:
        """All frames of some files, each file copied into place in turn: pictures fill gigabytes, once is enough."""
        names = [f.name for f in fields(cls)]
        lengths, arrays = [], {}
        for path in paths:
            with np.load(path, allow_pickle=False) as file:
                lengths.append(len(file["proprio"]))
        for i, path in enumerate(paths):
            with np.load(path, allow_pickle=False) as file:
                for name in names:
                    part = file[name]
                    if name == "instruction":
                        part = part.astype("U128")  # as wide as any instruction
                    if i == 0:
                        arrays[name] = np.empty((sum(lengths), *part.shape[1:]), part.dtype)
                    arrays[name][sum(lengths[:i]) : sum(lengths[: i + 1])] = part
        return cls(*(arrays[name] for name in names))


class ActionNoise:
    """Bursts of a constant push in a random direction, so that the expert shows how to recover."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._left, self._push = rng, 0, np.zeros(4)

    def __call__(self, command: np.ndarray) -> np.ndarray:
        if self._left == 0 and self._rng.random() < 0.06:
            self._left = int(self._rng.integers(4, 14))
            self._push = np.append(self._rng.normal(0, 0.6, 3) * MAX_SPEED, 0.0)
        if self._left == 0:
            return command
        self._left -= 1
        return command + self._push


def record_episode(robot: SimulatedRobot, seed: int, config: MVLAConfig, *, noisy: bool) -> Demonstrations | None:
    """One episode under the expert's command.

    Args:
        robot: its task is done. seed: of the scene and the noise. noisy: push the arm about in bursts.

    Returns:
        The frames with the expert's actions, or None when the expert did not succeed.
    """
    rng = np.random.default_rng([seed, 1])
    robot.reset(seed)
    solved_at = None
    noise = ActionNoise(rng)
    frames, labels = [], []
    while solved_at is None or robot.steps < solved_at + config.chunk_size + 4:
        if robot.steps >= robot.task.max_steps:
            return None
        if robot.steps % OBSERVE_EVERY == 0 and (solved_at is None or robot.steps <= solved_at + 4):
            frames.append((robot.steps, prepare(robot.observe(), config)))
        command = robot.expert_command()
        labels.append(command)
        robot.step(noise(command) if noisy else command)
        if robot.success and solved_at is None:
            solved_at = robot.steps
    actions = np.stack(labels)
    inputs = [f for _, f in frames]
    return Demonstrations(
        image=np.stack([f.image for f in inputs]),
        centres=np.stack([f.centres for f in inputs]),
        groups=np.stack([f.groups for f in inputs]).astype(np.float16),
        proprio=np.stack([f.proprio for f in inputs]),
        actions=np.stack([actions[i : i + config.chunk_size] for i, _ in frames]),
        instruction=np.array([robot.task.instruction] * len(frames)),
    )
