"""Latency of policy calls: variants interleaved in one process, so that they see the same machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..policy.config import MVLAConfig
from ..policy.instruction import InstructionTokenizer
from ..policy.model import MVLAModel
from ..policy.mvla import MVLAPolicy
from ..policy.normalization import ActionNormalization
from ..pruning.methods import make_pruner
from ..runtime import PolicyRuntime
from ..types import Observation


@dataclass(frozen=True)
class Variant:
    """One way to run the policy.

    Attributes:
        method, keep: see ``make_pruner``. recompute: see ``MVLAPolicy``; a policy of one pass has nothing to reuse.
    """

    method: str
    keep: float
    recompute: bool = False

    @property
    def name(self) -> str:
        """``upstream`` for everything every time, ``cached`` for the prefix once, ``pruned`` and ``pruned_cached``
        with fewer tokens; other methods than tri_stage by their own name in the place of ``pruned``."""
        if self.method == "none":
            return "upstream" if self.recompute else "cached"
        pruned = "pruned" if self.method == "tri_stage" else self.method
        return pruned if self.recompute else f"{pruned}_cached"


@dataclass
class Timings:
    """Milliseconds of every timed call of a variant.

    Attributes:
        policy: tokens chosen to actions on the host: select, tokenize, backbone, head. backbone, select: parts of it.
        tokens: visual tokens in the backbone, by call.
    """

    policy: list[float] = field(default_factory=list)
    backbone: list[float] = field(default_factory=list)
    select: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)


def random_policies(config: MVLAConfig, instruction: str, device: str, seed: int = 0) -> dict[bool, MVLAPolicy]:
    """Policies on the same random weights, which are enough to measure time: by whether they recompute."""
    torch.manual_seed(seed)
    tokenizer = InstructionTokenizer.from_instructions([instruction], config.instruction_length)
    limits = np.ones(config.action_dim, np.float32)
    model, normalization = MVLAModel(config, tokenizer.size), ActionNormalization(-limits, limits)
    return {again: MVLAPolicy(model, tokenizer, normalization, device, recompute=again) for again in (False, True)}


def simulated_observations(task: str, image_size: int, calls: int, replan_steps: int = 4) -> list[Observation]:
    """What the camera sees at the policy calls of an episode that the expert drives."""
    from ..sim.robot import robot_of

    robot = robot_of(task, image_size)
    robot.reset(0)
    observations = []
    for _ in range(calls):
        observations.append(robot.observe())
        for _ in range(replan_steps):
            robot.step(robot.expert_command())
    return observations


def measure(
    policies: dict[bool, MVLAPolicy],
    variants: Sequence[Variant],
    observations: Sequence[Observation],
    rounds: int,
    on_round: Callable[[], Any] = lambda: None,
) -> dict[Variant, Timings]:
    """Time every variant on the same episode.

    A round is one call of each variant on the next observation, so that a slow moment of the machine hits all. The
    first episode warms up; an episode's first call is full for every method and not counted.
    """
    runtimes = {v: PolicyRuntime(policies[v.recompute], make_pruner(v.method, v.keep)) for v in variants}
    timings = {v: Timings() for v in variants}
    for counted, observation, first in _schedule(observations, rounds):
        for variant, runtime in runtimes.items():
            if first:
                runtime.reset()
            inference = runtime.infer(observation)
            if counted:
                ms, record = inference.stage_ms, timings[variant]
                record.policy.append(inference.policy_ms - ms["prepare"])
                record.backbone.append(ms["backbone"])
                record.select.append(ms["select"])
                record.tokens.append(int(inference.selection.kept.sum()))
        on_round()
    return timings


def total_rounds(observations: Sequence[Observation], rounds: int) -> int:
    """Calls per variant that ``measure`` makes, for a progress bar."""
    return sum(1 for _ in _schedule(observations, rounds))


def _schedule(observations: Sequence[Observation], rounds: int) -> Iterator[tuple[bool, Observation, bool]]:
    done, episode = 0, 0
    while done < rounds:
        for i, observation in enumerate(observations[:3] if episode == 0 else observations):
            counted = episode > 0 and i > 0
            yield counted, observation, i == 0
            done += counted
            if done == rounds:
                return
        episode += 1


def bench_row(preset: str, config: MVLAConfig, variant: Variant, timings: Timings, first: Timings) -> dict[str, Any]:
    """One row of the result file. first: timings of the variant of the same run that speed-ups are relative to."""
    policy = float(np.median(timings.policy))
    return {
        "variant": variant.name,
        "preset": preset,
        "width": config.width,
        "depth": config.depth,
        "visual_tokens": config.num_visual,
        "method": variant.method,
        "keep_ratio": variant.keep,
        "tokens": int(np.median(timings.tokens)),
        "policy_ms_p50": round(policy, 3),
        "policy_ms_p99": round(float(np.percentile(timings.policy, 99)), 3),
        "backbone_ms_p50": round(float(np.median(timings.backbone)), 3),
        "selection_ms_p50": round(float(np.median(timings.select)), 3),
        "selection_share": round(float(np.median(np.array(timings.select) / np.array(timings.policy))), 4),
        "speed_up": round(float(np.median(first.policy)) / policy, 3),
        "rounds": len(timings.policy),
    }
