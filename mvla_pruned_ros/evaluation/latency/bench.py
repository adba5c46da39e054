"""Latency of policy calls: variants interleaved in one process, so that they see the same machine."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ...policy.engine.machine import machine
from ...policy.mla.policy import MLAPolicy
from ...policy.mvla.policy import MVLAPolicy
from ...policy.runtime import PolicyRuntime
from ...pruning.methods import make_pruner
from ...pruning.types import Selection
from ...types import Observation
from .costs import Floor, backbone_passes
from .subject import Subject

MIB = 2**20


@dataclass(frozen=True)
class Variant:
    """One way to run the policy.

    Attributes:
        method, keep: see ``make_pruner``. recompute: see ``Executor``; a policy of one pass has nothing to reuse.
        graphs: replay CUDA graphs where it can; False launches kernel by kernel. Without meaning on a CPU.
    """

    method: str
    keep: float
    recompute: bool = False
    graphs: bool = True

    @property
    def name(self) -> str:
        """``upstream`` for everything every time, ``cached`` for the prefix once, ``pruned`` and ``pruned_cached``
        with fewer tokens; other methods than tri_stage by their own name in the place of ``pruned``; ``_eager`` behind
        it where graphs were left out on purpose."""
        if self.method == "none":
            name = "upstream" if self.recompute else "cached"
        else:
            pruned = "pruned" if self.method == "tri_stage" else self.method
            name = pruned if self.recompute else f"{pruned}_cached"
        return name if self.graphs or self.recompute else f"{name}_eager"


def variants(methods: Sequence[str], keeps: Sequence[float], denoises: bool, gpu: bool) -> list[Variant]:
    """Upstream's loop first (for a policy of one pass: the full call), then each saving alone and all together."""
    plain = [Variant("none", 1.0)]
    plain += [Variant(m, k) for m in methods if m != "none" for k in keeps]
    again = [Variant(v.method, v.keep, recompute=True) for v in plain] if denoises else []
    eager = [Variant(v.method, v.keep, graphs=False) for v in plain] if gpu else []
    return [*again, *eager, *plain]


@dataclass
class Timings:
    """Every timed call of a variant, in order.

    Attributes:
        policy: milliseconds from the prepared input to actions on the host: choosing tokens, towers, backbone, head.
        backbone, select, prepare: milliseconds of these stages; ``prepare`` is not part of ``policy``.
        tokens: visual tokens in the backbone. peak_mib: device memory at its highest, 0 on a CPU.
    """

    policy: list[float] = field(default_factory=list)
    backbone: list[float] = field(default_factory=list)
    select: list[float] = field(default_factory=list)
    prepare: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    peak_mib: float = 0.0


def measure(
    subject: Subject,
    variants: Sequence[Variant],
    observations: Sequence[Observation],
    rounds: int,
    on_round: Callable[[], Any] = lambda: None,
) -> dict[Variant, Timings]:
    """Time every variant on the same episode.

    A round is one call of each variant on the next observation, so that a slow moment of the machine hits all. The
    first episode warms up; an episode's first call is full for every method and not counted.
    """
    policies: dict[tuple[bool, bool], MVLAPolicy | MLAPolicy] = {}
    runtimes = {}
    for v in variants:
        way = (v.recompute, v.graphs)
        policies[way] = policies.get(way) or subject.run_as(v.recompute, None if v.graphs else False)
        runtimes[v] = PolicyRuntime(policies[way], make_pruner(v.method, v.keep, subject.pruning))
    timings = {v: Timings() for v in variants}
    gpu = subject.policy.device if subject.policy.device.type == "cuda" else None
    for counted, observation, first in _schedule(observations, rounds):
        for variant, runtime in runtimes.items():
            if first:
                runtime.reset()
            if gpu is not None:
                torch.cuda.reset_peak_memory_stats(gpu)
            inference = runtime.infer(observation)
            record = timings[variant]
            if gpu is not None:
                record.peak_mib = max(record.peak_mib, torch.cuda.max_memory_allocated(gpu) / MIB)
            if counted:
                ms = inference.stage_ms
                record.policy.append(inference.call_ms)
                record.backbone.append(ms["backbone"])
                record.select.append(ms["select"])
                record.prepare.append(ms["prepare"])
                record.tokens.append(inference.selection.num_kept)
        on_round()
    return timings


def total_rounds(observations: Sequence[Observation], rounds: int) -> int:
    """Calls per variant that ``measure`` makes, for a progress bar."""
    return sum(1 for _ in _schedule(observations, rounds))


def _schedule(observations: Sequence[Observation], rounds: int) -> Iterator[tuple[bool, Observation, bool]]:
    done, episode = 0, 0
    while done < rounds:
        for i, observation in enumerate(observations[:4] if episode == 0 else observations):
            counted = episode > 0 and i > 0
            yield counted, observation, i == 0
            done += counted
            if done == rounds:
                return
        episode += 1


@dataclass(frozen=True)
class Lengths:
    """Tokens of one call. prefix: before the action segment, all visual tokens in. queries: action segment.
    steps: passes through the backbone. tower_flops: by torch's counter, all visual tokens in."""

    prefix: int
    queries: int
    steps: int
    tower_flops: float

    @classmethod
    def of(cls, subject: Subject, observation: Observation) -> Lengths:
        """By encoding an observation."""
        policy: Any = subject.policy
        config = subject.config
        prepared = policy.prepare(observation)
        batch = policy._batch(prepared, Selection.full(prepared.layout), observation.instruction)
        # With gradients packed layers take the plain way, whose operations the counter knows.
        with torch.enable_grad(), FlopCounterMode(display=False) as counter:
            prefix = policy.model.tokenize(batch)
        steps = config.ddim_steps if subject.denoises else 1
        return cls(
            prefix.tokens.shape[1], config.chunk_size + subject.denoises, steps, float(counter.get_total_flops())
        )


def bench_row(
    subject: Subject, variant: Variant, timings: Timings, first: Timings, lengths: Lengths, floor: Floor
) -> dict[str, Any]:
    """One row of the result file.

    Args:
        first: timings of the variant of the same run that speed-ups are relative to. lengths: of an unpruned call.
    """
    config, tokens = subject.config, int(np.median(timings.tokens))
    length = lengths.prefix - config.num_visual + tokens
    passes = backbone_passes(
        config, length, lengths.queries, lengths.steps, variant.recompute, subject.dtype.itemsize, config.chunk_size
    )
    policy_ms, floor_ms = np.array(timings.policy), floor.ms(passes)
    return {
        "variant": variant.name,
        "subject": subject.name,
        "width": config.width,
        "depth": config.depth,
        "visual_tokens": config.num_visual,
        "method": variant.method,
        "keep_ratio": variant.keep,
        "tokens": tokens,
        "sequence": length + lengths.queries,
        "sequence_ratio": round((lengths.prefix + lengths.queries) / (length + lengths.queries), 3),
        "policy_ms_p50": _median(policy_ms),
        "policy_ms_p99": round(float(np.percentile(policy_ms, 99)), 3),
        "backbone_ms_p50": _median(timings.backbone),
        "selection_ms_p50": _median(timings.select),
        "selection_share": _median(timings.select / policy_ms, 4),
        "prepare_ms_p50": _median(timings.prepare),
        "speed_up": _median(first.policy / policy_ms),
        "backbone_gflop": round(sum(p.flops for p in passes) / 1e9, 3),
        "towers_gflop_full": round(lengths.tower_flops / 1e9, 3),
        "backbone_mb": round(sum(p.bytes for p in passes) / 1e6, 3),
        "floor_ms": round(floor_ms, 3),
        "over_floor": _median(np.array(timings.backbone) / floor_ms, 2) if floor_ms > 0 else math.nan,
        "peak_device_mib": round(timings.peak_mib, 1) if timings.peak_mib else None,
        "peak_process_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "rounds": len(timings.policy),
        "precision": str(subject.dtype).removeprefix("torch."),
        "device": subject.policy.device_name,
        **machine(),
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "").lower(),
        "matmul_gflop_s": round(floor.matmul / 1e9, 1),
        "copy_gb_s": round(floor.copy / 1e9, 2),
    }


def _median(values: Any, digits: int = 3) -> float:
    return round(float(np.median(values)), digits)
