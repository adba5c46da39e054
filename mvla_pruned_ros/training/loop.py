"""Behaviour cloning: resumable, on one machine's CPU or GPU."""

from __future__ import annotations

import copy
import csv
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..policy.checkpoint import load_policy_parts, save_policy
from ..policy.config import MVLAConfig
from ..policy.instruction import InstructionTokenizer
from ..policy.model import Batch, MVLAModel
from ..policy.normalization import ActionNormalization
from .demonstrations import Demonstrations
from .muon import Muon

CHECKPOINT_EVERY = 50  # steps


@dataclass(frozen=True)
class TrainingConfig:
    """How a policy is trained.

    Attributes:
        steps, batch_size, learning_rate, weight_decay, warmup_steps: cosine decay to zero.
        matrix_rate: learning rate of the backbone's matrices, which Muon trains, as a multiple of that of all other
            weights, which AdamW trains.
        ema_decay: of the averaged weights, which are the ones that are saved.
        keep_ratios, keep_weights: token dropout: each batch keeps one of these ratios of visual tokens, drawn
            with these weights. (1.0,) and (1.0,) train on all tokens.
        emphasis: (instruction, weight) pairs: how often a batch draws it; others have weight 1.
        precision: bf16 (autocast) or fp32. compile: use torch.compile (needs a C++ compiler on CPU).
        device: where to train. seed: of initial weights and batches.
    """

    steps: int = 20000
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    matrix_rate: float = 2.0
    warmup_steps: int = 300
    ema_decay: float = 0.999
    keep_ratios: tuple[float, ...] = (1.0, 0.5, 0.25)
    keep_weights: tuple[float, ...] = (0.4, 0.3, 0.3)
    emphasis: tuple[tuple[str, float], ...] = ()
    precision: str = "fp32"
    compile: bool = False
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.keep_ratios) != len(self.keep_weights):
            raise ValueError(f"{len(self.keep_ratios)} keep_ratios but {len(self.keep_weights)} keep_weights")
        if not all(0 < r <= 1 for r in self.keep_ratios):
            raise ValueError(f"keep_ratios must lie in (0, 1], got {self.keep_ratios}")
        if self.precision not in ("bf16", "fp32"):
            raise ValueError(f"precision must be bf16 or fp32, got {self.precision!r}")

    def rate_at(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


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


class _Sampler:
    """Draws batches: instructions by their weights, however many frames each has."""

    def __init__(self, data: Demonstrations, config: MVLAConfig, training: TrainingConfig,
                 normalization: ActionNormalization, tokenizer: InstructionTokenizer) -> None:  # fmt: skip
        self._config, self._training = config, training
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

    def draw(self, step: int) -> tuple[Batch, torch.Tensor]:
        """The batch of a step, a function of seed and step alone, so that resuming changes nothing."""
        rng = np.random.default_rng([self._training.seed, step])
        tasks = rng.choice(len(self._members), self._training.batch_size, p=self._weights)
        index = np.array([rng.choice(self._members[t]) for t in tasks])
        ratio = rng.choice(self._training.keep_ratios, p=self._training.keep_weights)
        image_kept = points_kept = None
        if ratio < 1:
            image_kept = self._kept(rng, self._config.num_patches, ratio)
            points_kept = self._kept(rng, self._config.num_groups, ratio)
        data, device = self._data, self._training.device
        batch = Batch(
            image=torch.from_numpy(data.image[index]).to(device),
            centres=torch.from_numpy(data.centres[index]).to(device),
            groups=torch.from_numpy(data.groups[index].astype(np.float32)).to(device),
            proprio=torch.from_numpy(data.proprio[index]).to(device),
            instruction=torch.from_numpy(self._ids[tasks]).to(device),
            image_kept=image_kept,
            points_kept=points_kept,
        )
        return batch, torch.from_numpy(self._target[index]).to(device)

    def _kept(self, rng: np.random.Generator, count: int, ratio: float) -> torch.Tensor:
        scores = rng.random((self._training.batch_size, count))
        kept = np.sort(scores.argpartition(round(ratio * count) - 1, 1)[:, : round(ratio * count)], 1)
        return torch.from_numpy(kept).to(self._training.device)


def train(
    data: Demonstrations, config: MVLAConfig, training: TrainingConfig, folder: Path, start: Path | None = None
) -> None:
    """Train a policy and write it to ``folder``; continues from ``folder/training.pt`` when that is there.

    Args:
        data: what to learn. config: the network. training: how.
        folder: gets config.json, model.safetensors, normalization.json, tokenizer.json, log.csv, train.json.
        start: policy folder whose weights, words and normalisation are the beginning; None begins with random ones.

    Raises:
        ValueError: the checkpoint in ``folder`` belongs to another configuration, or the policy in ``start`` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(training.seed)
    if start is not None:
        model, tokenizer, normalization = load_policy_parts(start)
        if model.config != config:
            raise ValueError(f"the policy in {start} has another configuration than the one to be trained")
        model.train().requires_grad_(True)
    else:
        tokenizer = InstructionTokenizer.from_instructions(np.unique(data.instruction), config.instruction_length)
        normalization = ActionNormalization.of(data.actions)
        model = MVLAModel(config, tokenizer.size)
    model.to(training.device)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizers = _Optimizers(model, training)
    sampler = _Sampler(data, config, training, normalization, tokenizer)
    checkpoint, settings = folder / "training.pt", {"training": asdict(training), "policy": asdict(config)}
    step = 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True, map_location=training.device)
        if state["settings"] != settings:
            raise ValueError(f"{checkpoint} was made with other settings: choose another folder or delete it")
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizers.load_state_dict(state["optimizers"])
        step = state["step"]
    loss_fn = torch.compile(model.loss) if training.compile else model.loss

    def save() -> None:
        state = {"model": model.state_dict(), "average": average.state_dict(),
                 "optimizers": optimizers.state_dict(), "step": step, "settings": settings}  # fmt: skip
        torch.save(state, checkpoint.with_suffix(".partial"))
        checkpoint.with_suffix(".partial").rename(checkpoint)
        save_policy(folder, average, tokenizer, normalization)
        (folder / "train.json").write_text(json.dumps(settings, indent=1) + "\n")

    autocast = torch.autocast(training.device, torch.bfloat16, enabled=training.precision == "bf16")
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.4f}"),
               TimeRemainingColumn())  # fmt: skip
    with (folder / "log.csv").open("a", newline="") as log, Progress(*columns) as progress:
        writer = csv.writer(log)
        if step == 0:
            writer.writerow(["step", "loss", "seconds"])
        bar = progress.add_task("", total=training.steps, completed=step, loss=float("nan"))
        recent, began = [], time.monotonic()
        while step < training.steps:
            batch, target = sampler.draw(step)
            with autocast:
                loss = loss_fn(batch, target)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizers.step(training.rate_at(step))
            step += 1
            decay = min(training.ema_decay, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
            recent.append(loss.detach())
            if step % 50 == 0:
                mean = float(torch.stack(recent).mean())
                progress.update(bar, completed=step, loss=mean)
                writer.writerow([step, f"{mean:.5f}", f"{time.monotonic() - began:.1f}"])
                log.flush()
                recent.clear()
            if step % CHECKPOINT_EVERY == 0 or step == training.steps:
                save()
