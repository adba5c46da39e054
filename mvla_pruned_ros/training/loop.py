"""Behaviour cloning: resumable, on CPU or GPU, on several of them under ``torchrun``."""

from __future__ import annotations

import copy
import csv
import math
import time
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..configuration.files import write_json, written_whole
from ..policy.mvla.checkpoint import load_policy_parts, save_policy
from ..policy.mvla.config import MVLAConfig
from ..policy.mvla.instruction import InstructionTokenizer
from ..policy.mvla.model import Batch, MVLAModel
from ..policy.mvla.normalization import ActionNormalization
from ..reports.terminal import ProgressBar
from .batches import Batches
from .config import TrainingConfig
from .demonstrations import Demonstrations
from .learning_curve import LOG, write_learning_curve
from .muon import Muon
from .ranks import ALONE, Ranks

CHECKPOINT_S = 60.0
LOG_EVERY = 50  # steps


class _Optimizers:
    """Muon (orthogonalised momentum, Jordan et al. 2024) for the matrices of the backbone, AdamW for the rest."""

    def __init__(self, model: MVLAModel, training: TrainingConfig) -> None:
        matrices = [p for p in model.backbone.layers.parameters() if p.ndim == 2]
        taken = {id(p) for p in matrices}
        others = [p for p in model.parameters() if id(p) not in taken]
        decay, rate = training.weight_decay, training.learning_rate
        self.all: dict[str, torch.optim.Optimizer] = {
            "muon": Muon(matrices, lr=rate, weight_decay=decay),
            "adamw": torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=decay),
        }
        self._factors = {"muon": training.matrix_rate, "adamw": 1.0}

    def step(self, rate: float) -> None:
        """One step at learning rate ``rate``; gradients are set to none after it."""
        for name, optimizer in self.all.items():
            for group in optimizer.param_groups:
                group["lr"] = rate * self._factors[name]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {name: optimizer.state_dict() for name, optimizer in self.all.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, optimizer in self.all.items():
            optimizer.load_state_dict(state[name])


class _Loss(nn.Module):
    """The loss as the forward pass of a module, which is what DistributedDataParallel wraps."""

    def __init__(self, model: MVLAModel, training: TrainingConfig) -> None:
        super().__init__()
        self._model, self._training = model, training

    def forward(self, batch: Batch, target: Tensor) -> Tensor:
        return self._model.loss(batch, target, self._training.noise_draws, self._training.grounding_weight)


def train(
    data: Demonstrations,
    config: MVLAConfig,
    training: TrainingConfig,
    folder: Path,
    start: Path | None = None,
    ranks: Ranks = ALONE,
) -> None:
    """Train a policy and write it to ``folder``; continues from ``folder/training.pt`` when that is there.

    Args:
        data: what to learn. config: the network. training: how.
        folder: gets config.json, model.safetensors, normalization.json, tokenizer.json, log.csv, learning_curve.html,
            train.json.
        start: policy folder whose weights, words and normalisation are the beginning; None begins with random ones.
        ranks: this process among those that train together, each on its part of every batch.

    Raises:
        ValueError: the checkpoint in ``folder`` belongs to another configuration, or the policy in ``start`` does.
    """
    run = _Run(data, config, training, folder, start, ranks)
    run.resume()
    run.train()


class _Run:
    """State of one training: weights, their average, optimisers, and how far it is."""

    def __init__(
        self, data: Demonstrations, config: MVLAConfig, training: TrainingConfig, folder: Path, start: Path | None,
        ranks: Ranks,
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(training.seed)
        if start is not None:
            self._model, self._tokenizer, self._normalization = load_policy_parts(start)
            if self._model.config != config:
                raise ValueError(f"the policy in {start} has another configuration than the one to be trained")
            self._model.train().requires_grad_(True)
        else:
            words = np.unique(data.instruction)
            self._tokenizer = InstructionTokenizer.from_instructions(words, config.instruction_length)
            self._normalization = ActionNormalization.of(data.actions)
            self._model = MVLAModel(config, self._tokenizer.size)
        self._training, self._folder, self._ranks = training, folder, ranks
        self._device = torch.device(training.device, ranks.gpu) if training.device == "cuda" else torch.device("cpu")
        self._model.to(self._device)
        self._average = copy.deepcopy(self._model).requires_grad_(False)
        self._optimizers = _Optimizers(self._model, training)
        self._batches = Batches(data, config, training, self._normalization, self._tokenizer, ranks)
        self._settings = {"training": asdict(training), "policy": asdict(config)}
        self._checkpoint = folder / "training.pt"
        self._step, self._seconds = 0, 0.0

    def resume(self) -> None:
        """From the checkpoint, if there is one."""
        if not self._checkpoint.is_file():
            return
        try:
            state = torch.load(self._checkpoint, weights_only=True, map_location=self._device)
            if state["settings"] != self._settings:
                raise ValueError("it was made with other settings")
            self._model.load_state_dict(state["model"])
            self._average.load_state_dict(state["average"])
            self._optimizers.load_state_dict(state["optimizers"])
            self._step, self._seconds = state["step"], state["seconds"]
        except (
            ValueError,
            RuntimeError,
            EOFError,
            KeyError,
            TypeError,
            AttributeError,
            UnpicklingError,
        ) as error:
            raise ValueError(
                f"cannot go on from {self._checkpoint}: {error or type(error).__name__}; choose another --out, or "
                "delete the file to begin anew"
            ) from error

    def train(self) -> None:
        """All steps that are left."""
        training, wrapped = self._training, _Loss(self._model, self._training)
        loss_of: Any = DistributedDataParallel(wrapped) if self._ranks.world > 1 else wrapped
        loss_of = torch.compile(loss_of) if training.compile else loss_of
        recent: list[Tensor] = []
        resumed = self._seconds
        began = saved = time.monotonic()
        self._restore_log()
        with ProgressBar("training", training.steps, self._step, disable=not self._ranks.first) as bar:
            for batch, target in self._batches.loader(self._step):
                self._seed()
                loss = self._add_gradients(loss_of, batch.to(self._device), target.to(self._device, non_blocking=True))
                torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
                self._optimizers.step(training.rate_at(self._step))
                self._step += 1
                self._update_average()
                recent.append(loss)
                now = time.monotonic()
                self._seconds = resumed + now - began
                if self._step % LOG_EVERY == 0:
                    mean = float(self._ranks.mean(torch.stack(recent).mean()))
                    recent.clear()
                    bar.show(self._step, note=f"loss {mean:.4f}")
                    self._note(mean)
                if now - saved >= CHECKPOINT_S or self._step == training.steps:
                    self._save()
                    saved = time.monotonic()

    def _add_gradients(self, loss_of: Any, batch: Batch, target: Tensor) -> Tensor:
        """Part by part; returns the loss of the batch."""
        size = self._training.micro_batch or len(target)
        whole = torch.zeros((), device=self._device)
        for start in range(0, len(target), size):
            samples = slice(start, start + size)
            wanted = target[samples]
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._training.precision == "bf16"):
                loss = loss_of(batch.part(samples), wanted) * (len(wanted) / len(target))
            loss.backward()
            whole += loss.detach()
        return whole

    def _seed(self) -> None:
        """The noise of a step, too, depends on seed, step and process alone."""
        words = np.random.SeedSequence([self._training.seed, self._step, self._ranks.rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0] >> np.uint64(1)))

    def _update_average(self) -> None:
        decay = min(self._training.ema_decay, (1 + self._step) / (10 + self._step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self._average.parameters()), list(self._model.parameters()), 1 - decay)

    def _restore_log(self) -> None:
        """Begin the log, or cut it off where the checkpoint is."""
        if not self._ranks.first:
            return
        log = self._folder / LOG
        rows = [["step", "loss", "seconds"]]
        if self._step and log.is_file():
            with log.open(newline="") as file:
                rows += [row for row in csv.reader(file) if _is_row(row) and int(row[0]) <= self._step]
        with log.open("w", newline="") as file:
            csv.writer(file).writerows(rows)

    def _note(self, loss: float) -> None:
        if self._ranks.first:
            with (self._folder / LOG).open("a", newline="") as file:
                csv.writer(file).writerow([self._step, f"{loss:.5f}", f"{self._seconds:.1f}"])

    def _save(self) -> None:
        if not self._ranks.first:
            return
        state = {"model": self._model.state_dict(), "average": self._average.state_dict(),
                 "optimizers": self._optimizers.state_dict(), "step": self._step, "seconds": self._seconds,
                 "settings": self._settings}  # fmt: skip
        try:
            with written_whole(self._checkpoint) as partial:
                torch.save(state, partial)
        except RuntimeError as error:  # torch's own writer raises no OSError
            raise OSError(
                f"{self._checkpoint} cannot be written, the last one stays: {error}; free some space, then run "
                "the same command again to go on"
            ) from error
        save_policy(self._folder, self._average, self._tokenizer, self._normalization)
        write_json(self._folder / "train.json", self._settings)
        write_learning_curve(self._folder)


def _is_row(cells: list[str]) -> bool:
    """Whether a line of the log is whole: the last one may be torn."""
    try:
        return len(cells) == 3 and cells[0].isdigit() and all(math.isfinite(float(cell)) for cell in cells)
    except ValueError:
        return False
