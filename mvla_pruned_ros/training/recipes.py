"""How the shipped policies are made: data, network, training. ``mvla train --preset NAME`` follows one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..policy.mvla.config import MVLAConfig
from ..policy.mvla.presets import preset
from ..sim.libero.tasks import SCATTERED, SUITES
from ..sim.tasks import task_named
from .config import TrainingConfig


@dataclass(frozen=True)
class Shard:
    """Episodes recorded into one file.

    Attributes:
        task: name. first_seed, episodes: which scenes. The arm is pushed about in episodes of odd seed.
        beginnings: 0 for whole episodes; else of each scene only so many first frames, with every errand it allows.
        sensors: of whole episodes, through which the robot is seen, see ``parts_named``; empty for perfect ones.
    """

    task: str
    first_seed: int
    episodes: int
    beginnings: int = 0
    sensors: str = ""

    @property
    def name(self) -> str:
        """Name of the file, without its ending."""
        ending = f"-first-{self.beginnings}" if self.beginnings else ""
        ending += f"-{self.sensors}" if self.sensors else ""
        return f"{self.task.replace('/', '-')}-{self.first_seed}-{self.episodes}{ending}"


@dataclass(frozen=True)
class Recipe:
    """Demonstrations, how to train on them, the network, and the shipped policy whose weights it starts from."""

    shards: tuple[Shard, ...]
    training: TrainingConfig
    policy: MVLAConfig = field(default_factory=MVLAConfig)
    start: str | None = None


# Evaluation uses seeds below 500 000, calibration those from there to a million. Of LIBERO's own scenes there are 50:
# evaluation uses 30 to 49.
_PRECISION = ("push", "pick-place", "coffee-push", "peg-unplug-side")
_ELEVEN_TASKS = (
    *(Shard(task, first, 150) for task in _PRECISION for first in (1_000_000, 1_000_150)),
    Shard("touch-ball", 1_000_000, 200),
    *(Shard(task, 1_000_000, 150) for task in ("faucet-open", "faucet-close")),
    *(Shard(task, 1_000_000, 120) for task in ("button-press-topdown", "drawer-open", "handle-press", "plate-slide")),
)
# What a real camera sees, each with a calibration of its own that is off. Perfect sensors are kept in mind.
_SENSORS = ("", "realsense+calibration1", "realsense+calibration1+lighting")
_AS_MEASURED = tuple(
    Shard(task, 1_000_000, 40 if task in _PRECISION else 20, sensors=sensors)
    for sensors in _SENSORS
    for task in dict.fromkeys(shard.task for shard in _ELEVEN_TASKS)
)
# The others are solved after a fraction of the samples that these take.
_EMPHASIS = {"push": 3.0, "pick-place": 3.0, "coffee-push": 2.5, "peg-unplug-side": 2.5, "touch-ball": 2.0}

_WEIGHTS = tuple((task_named(task).instruction, weight) for task, weight in _EMPHASIS.items())

# On all tokens, so that pruning the policy is training-free.
_ALL_TOKENS = TrainingConfig(keep_ratios=(1.0,), keep_weights=(1.0,), emphasis=_WEIGHTS, precision="bf16", compile=True)
# From the weights of an earlier recipe, on any CPU.
_FURTHER = replace(
    _ALL_TOKENS,
    steps=1200,
    learning_rate=7e-4,
    warmup_steps=50,
    ema_decay=0.995,
    precision="fp32",
    compile=False,
)

_PANDA_SEEDS = {
    "libero_object": (0, 15),
    "libero_spatial": (0, 15),
    "libero_object_scattered": (1_000_000, 1_000_020),
    "libero_spatial_scattered": (1_000_000, 1_000_020, 1_000_040),
}

RECIPES: dict[str, Recipe] = {
    # Two CPU cores, about an hour.
    "small": Recipe(shards=_ELEVEN_TASKS, training=replace(_ALL_TOKENS, steps=3600)),
    # The same weights, trained on through the sensors of a robot. Two CPU cores, half an hour.
    "small-robust": Recipe(start="small", shards=_AS_MEASURED, training=_FURTHER),
    # The same again with random token dropout: pruning-aware. Two CPU cores, a quarter of an hour.
    "small-robust-aware": Recipe(
        start="small-robust",
        shards=_AS_MEASURED,
        training=replace(
            _FURTHER,
            steps=1000,
            warmup_steps=40,
            keep_ratios=(1.0, 0.5, 0.35, 0.25),
            keep_weights=(0.25, 0.2, 0.25, 0.3),
            background_weight=0.3,
            seed=1,
        ),
    ),
    # More tokens and width, three tasks, on all tokens: success and speed on the same weights. One CPU core, an hour
    # and a half.
    "medium": Recipe(
        policy=preset("medium"),
        shards=(
            *(Shard("push", first, 150) for first in (1_000_000, 1_000_150)),
            *(Shard(task, 1_000_000, 120) for task in ("plate-slide", "drawer-open")),
        ),
        training=replace(
            _ALL_TOKENS,
            steps=1000,
            warmup_steps=100,
            ema_decay=0.995,
            emphasis=((task_named("push").instruction, 2.0),),
            precision="fp32",
        ),
    ),
    # Two suites of LIBERO. With token dropout, the last part on all tokens. One CPU core, hours.
    "panda": Recipe(
        policy=preset("panda"),
        shards=(
            *(
                Shard(task, first, 20 if suite.endswith(SCATTERED) else 15)
                for suite, seeds in _PANDA_SEEDS.items()
                for first in seeds
                for task in SUITES[suite]
            ),
            *(
                Shard(task, first, 40, 2)
                for first in (2_000_000, 2_000_040)
                for task in SUITES["libero_object_scattered"]
            ),
        ),
        training=TrainingConfig(
            steps=3000,
            micro_batch=16,
            warmup_steps=150,
            ema_decay=0.997,
            keep_ratios=(0.4, 0.25),
            keep_weights=(0.4, 0.6),
            background_weight=0.1,
            all_tokens_from=0.92,
            early_frames=5,
            early_weight=2.0,
            grounding_weight=0.1,
        ),
    ),
}
