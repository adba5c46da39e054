"""How a policy is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingConfig:
    """How a policy is trained.

    Attributes:
        steps, batch_size, learning_rate, weight_decay, warmup_steps: cosine decay to zero.
        micro_batch: samples that pass the network at once, while the gradients of a batch add up; 0: the whole batch.
            Fewer take less memory, and a CPU is faster while what a layer leaves fits its cache.
        matrix_rate: learning rate of the backbone's matrices, which Muon trains, as a multiple of that of all other
            weights, which AdamW trains.
        ema_decay: of the averaged weights, which are the ones that are saved.
        keep_ratios, keep_weights: token dropout: each batch keeps one of these ratios of visual tokens, drawn
            with these weights. (1.0,) and (1.0,) train on all tokens.
        background_weight: of a patch that shows nothing in the workspace, when it is drawn which tokens are kept;
            others have weight 1. all_tokens_from: share of the steps after which all tokens are kept.
        early_frames, early_weight: the first frames of an episode, that many, are drawn that many times as often as the
            others. Which of several things is meant decides only those; afterwards the arm's own way tells it as well.
        emphasis: (instruction, weight) pairs: how often a batch draws it; others have weight 1.
        grounding_weight: of the loss by which point tokens learn whether they show what the instruction means, for a
            policy with ``grounding``: that is what the gripper will close on, or let go over, next.
        noise_draws: of the ddim head: so many noisy chunks of a sample are learnt from at once. What stands before them
            runs once for all, so that they cost little.
        precision: bf16 (autocast) or fp32. compile: use torch.compile (needs a C++ compiler on CPU).
        device: cpu or cuda. seed: of initial weights and batches.
    """

    steps: int = 20000
    batch_size: int = 64
    micro_batch: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    matrix_rate: float = 2.0
    warmup_steps: int = 300
    ema_decay: float = 0.999
    keep_ratios: tuple[float, ...] = (1.0, 0.5, 0.25)
    keep_weights: tuple[float, ...] = (0.4, 0.3, 0.3)
    background_weight: float = 1.0
    all_tokens_from: float = 1.0
    early_frames: int = 0
    early_weight: float = 1.0
    emphasis: tuple[tuple[str, float], ...] = ()
    grounding_weight: float = 0.0
    noise_draws: int = 4
    precision: str = "fp32"
    compile: bool = False
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        # A checkpoint with numpy's strings, as taken from demonstrations, could be written but not be read again.
        object.__setattr__(self, "emphasis", tuple((str(name), float(weight)) for name, weight in self.emphasis))
        if len(self.keep_ratios) != len(self.keep_weights):
            raise ValueError(f"{len(self.keep_ratios)} keep_ratios but {len(self.keep_weights)} keep_weights")
        if not all(0 < r <= 1 for r in self.keep_ratios):
            raise ValueError(f"keep_ratios must lie in (0, 1], got {self.keep_ratios}")
        if not 0 < self.background_weight <= 1:
            raise ValueError(f"background_weight must lie in (0, 1], got {self.background_weight}")
        if not 0 <= self.all_tokens_from <= 1:
            raise ValueError(f"all_tokens_from must lie in [0, 1], got {self.all_tokens_from}")
        if self.early_frames < 0 or not 0 < self.early_weight < math.inf:
            raise ValueError(
                f"early_frames must not be negative and early_weight be positive, got {self.early_frames} and "
                f"{self.early_weight}"
            )
        if not 0 <= self.grounding_weight < math.inf:
            raise ValueError(f"grounding_weight must not be negative, got {self.grounding_weight}")
        if self.micro_batch < 0:
            raise ValueError(f"micro_batch must not be negative, got {self.micro_batch}")
        if self.noise_draws < 1:
            raise ValueError(f"noise_draws must be at least 1, got {self.noise_draws}")
        if self.precision not in ("bf16", "fp32"):
            raise ValueError(f"precision must be bf16 or fp32, got {self.precision!r}")

    def rate_at(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
