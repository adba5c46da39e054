"""How the shipped policies are made: data, network, training. ``mvla train --preset NAME`` follows one."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..policy.config import MVLAConfig
from .loop import TrainingConfig


@dataclass(frozen=True)
class Shard:
    """Episodes recorded into one file.

    Attributes:
        task: name. first_seed, episodes: which scenes. The arm is pushed about in episodes of odd seed.
    """

    task: str
    first_seed: int
    episodes: int

    @property
    def name(self) -> str:
        """Name of the file, without its ending."""
        return f"{self.task}-{self.first_seed}-{self.episodes}"


@dataclass(frozen=True)
class Recipe:
    """Demonstrations, how to train on them, and the network."""

    shards: tuple[Shard, ...]
    training: TrainingConfig
    policy: MVLAConfig = field(default_factory=MVLAConfig)


_PRECISION = ("push", "pick-place", "coffee-push", "peg-unplug-side")
_TWELVE = (
    *(Shard(task, first, 150) for task in _PRECISION for first in (1_000_000, 1_000_150)),
    Shard("touch-ball", 1_000_000, 200),
    *(Shard(task, 1_000_000, 150) for task in ("faucet-open", "faucet-close")),
    *(Shard(task, 1_000_000, 120) for task in ("button-press-topdown", "drawer-open", "handle-press", "plate-slide")),
)
RECIPES: dict[str, Recipe] = {
    # Two CPU cores, about an hour. Evaluation uses seeds below 1 000 000.
    "small": Recipe(
        shards=(
            Shard("button-press-topdown", 1_000_000, 120),
            Shard("faucet-close", 1_000_000, 150),
            Shard("faucet-open", 1_000_000, 150),
            Shard("push", 1_000_000, 150),
            Shard("push", 1_000_150, 150),
        ),
        training=TrainingConfig(
            steps=3600,
            # The one precision task: the others are solved after a fraction of the samples it takes.
            emphasis=(("push the puck to the goal", 3.0),),
            precision="bf16",
            compile=True,
        ),
    ),
}
