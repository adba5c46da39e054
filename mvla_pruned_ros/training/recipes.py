"""How the shipped policies are made: data, network, phases. ``mvla train --preset NAME`` follows one."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..policy.config import MVLAConfig
from .loop import TrainingConfig


@dataclass(frozen=True)
class Shard:
    """Episodes recorded into one file.

    Attributes:
        task: name. first_seed, episodes: which scenes. The arm is pushed about in episodes of odd seed.
        takeover: the policy of the phase before drives first, the expert takes over from where it got to.
    """

    task: str
    first_seed: int
    episodes: int
    takeover: bool = False

    @property
    def name(self) -> str:
        return f"{self.task}-{self.first_seed}-{self.episodes}{'-takeover' if self.takeover else ''}"


@dataclass(frozen=True)
class Phase:
    """One stretch of training; it starts from the weights of the phase before and sees all shards up to its own.

    Attributes:
        shards: demonstrations that are new in this phase. training: how to train on all so far.
    """

    shards: tuple[Shard, ...]
    training: TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """A policy's network and the phases of its training."""

    phases: tuple[Phase, ...]
    policy: MVLAConfig = field(default_factory=MVLAConfig)


# The one precision task: the others are solved after a tenth of the samples it takes.
_PUSH = (("push the puck to the goal", 3.0),)

RECIPES: dict[str, Recipe] = {
    # Two CPU cores, about two hours in all. Evaluation uses seeds below 1 000 000.
    "small": Recipe(
        phases=(
            Phase(
                shards=(
                    Shard("button-press-topdown", 1_000_000, 120),
                    Shard("faucet-close", 1_000_000, 150),
                    Shard("faucet-open", 1_000_000, 150),
                    Shard("push", 1_000_000, 150),
                    Shard("push", 1_000_150, 150),
                ),
                training=TrainingConfig(steps=3600, emphasis=_PUSH, precision="bf16", compile=True),
            ),
            Phase(
                shards=(
                    Shard("button-press-topdown", 2_000_000, 60, takeover=True),
                    Shard("faucet-close", 2_000_000, 90, takeover=True),
                    Shard("faucet-open", 2_000_000, 90, takeover=True),
                    Shard("push", 2_000_000, 150, takeover=True),
                    Shard("push", 2_000_150, 150, takeover=True),
                ),
                training=TrainingConfig(
                    steps=3000, learning_rate=7e-4, emphasis=_PUSH, precision="bf16", compile=True, seed=1
                ),
            ),
        ),
    ),
}
