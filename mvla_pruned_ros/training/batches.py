"""Batches of demonstrations: each a function of seed and step alone, so that resuming changes nothing."""

from __future__ import annotations

import multiprocessing

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..policy.mvla.config import MVLAConfig
from ..policy.mvla.instruction import InstructionTokenizer
from ..policy.mvla.model import Batch
from ..policy.mvla.normalization import ActionNormalization
from .config import TrainingConfig
from .demonstrations import Demonstrations
from .ranks import ALONE, Ranks

LOADERS = 4  # processes that gather batches while a GPU computes


class Batches(Dataset[tuple[Batch, Tensor]]):
    """Draws instructions by their weights, however many frames each has. The index is the step."""

    def __init__(
        self, data: Demonstrations, config: MVLAConfig, training: TrainingConfig, normalization: ActionNormalization,
        tokenizer: InstructionTokenizer, ranks: Ranks = ALONE,
    ) -> None:  # fmt: skip
        """
        Args:
            ranks: each of several processes gets its rows of the batch that a single one would get whole.

        Raises:
            ValueError: emphasis on what is not in the data, or a batch that cannot be shared out evenly.
        """
        if training.batch_size % ranks.world:
            raise ValueError(f"a batch of {training.batch_size} cannot be shared out evenly to {ranks.world} processes")
        self._config, self._training, self._ranks = config, training, ranks
        self._data = data
        self._target = normalization.normalize(data.actions)
        names, self._task = np.unique(data.instruction, return_inverse=True)
        self._ids = np.stack([tokenizer.encode(str(name)) for name in names])
        unknown = {name for name, _ in training.emphasis} - set(names.tolist())
        if unknown:
            raise ValueError(f"emphasis names instructions that are not in the data: {sorted(unknown)}")
        weights = np.array([dict(training.emphasis).get(str(name), 1.0) for name in names])
        self._weights = weights / weights.sum()
        self._members = [np.flatnonzero(self._task == i) for i in range(len(names))]
        drawn = np.where(data.frame < training.early_frames, training.early_weight, 1.0)
        self._drawn = [np.cumsum(drawn[members]) for members in self._members]

    def __len__(self) -> int:
        return self._training.steps

    def __getitem__(self, step: int) -> tuple[Batch, Tensor]:
        """The batch of a step, and (B, chunk, A) normalised actions, on the CPU."""
        rng = np.random.default_rng([self._training.seed, step])
        tasks = rng.choice(len(self._members), self._training.batch_size, p=self._weights)
        index = np.array([self._one_of(rng, t) for t in tasks])
        ratio = rng.choice(self._training.keep_ratios, p=self._training.keep_weights)
        image_kept = points_kept = None
        if ratio < 1 and step < self._training.all_tokens_from * self._training.steps:
            image_kept = self._kept(rng, self._config.num_patches, ratio, self._data.occupied[index])
            points_kept = self._kept(rng, self._config.num_groups, ratio)
        mine, data = slice(self._ranks.rank, None, self._ranks.world), self._data
        index, tasks = index[mine], tasks[mine]
        batch = Batch(
            image=torch.from_numpy(data.image[index]),
            centres=torch.from_numpy(data.centres[index]),
            groups=torch.from_numpy(data.groups[index].astype(np.float32)),
            colours=torch.from_numpy(data.colours[index]),
            proprio=torch.from_numpy(data.proprio[index]),
            end_effector=torch.from_numpy(data.end_effector[index]),
            goal=torch.from_numpy(data.goal[index]),
            instruction=torch.from_numpy(self._ids[tasks]),
            image_kept=image_kept if image_kept is None else image_kept[mine],
            points_kept=points_kept if points_kept is None else points_kept[mine],
        )
        return batch, torch.from_numpy(self._target[index])

    def _one_of(self, rng: np.random.Generator, task: int) -> int:
        """A frame of a task, by the weights of frames."""
        weights = self._drawn[task]
        return self._members[task][np.searchsorted(weights, rng.random() * weights[-1], side="right")]

    def _kept(
        self, rng: np.random.Generator, count: int, ratio: float, occupied: np.ndarray | None = None
    ) -> Tensor:  # fmt: skip
        """(B, M) ascending indices, drawn without replacement; patches that are not occupied with a lower weight."""
        scores = rng.random((self._training.batch_size, count))
        if occupied is not None:  # the M smallest of so many exponential variables over weights (Efraimidis, Spirakis)
            scores = -np.log1p(-scores) / np.where(occupied, 1.0, self._training.background_weight)
        kept = np.sort(scores.argpartition(round(ratio * count) - 1, 1)[:, : round(ratio * count)], 1)
        return torch.from_numpy(kept)

    def loader(self, first: int) -> DataLoader[tuple[Batch, Tensor]]:
        """The batches from step ``first`` on; for a GPU gathered ahead by other processes, into pinned memory."""
        steps = range(first, len(self))
        if self._training.device != "cuda":
            return DataLoader(self, batch_size=None, sampler=steps)
        return DataLoader(
            self, batch_size=None, sampler=steps, num_workers=LOADERS, prefetch_factor=4, pin_memory=True,
            multiprocessing_context=multiprocessing.get_context("fork"),  # they share the demonstrations
        )  # fmt: skip
