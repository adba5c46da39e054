"""Pruned and unpruned calls on the same frames of a bag, and what was commanded when it was recorded."""

from __future__ import annotations

import math
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..analysis.recording import KeepEvidence
from ..bags.observations import BagFrame
from ..policy.base import Policy
from ..policy.mvla.preprocess import NotReadyError
from ..policy.runtime import Inference, NonFiniteActionError, PolicyRuntime
from ..pruning.base import Pruner
from ..pruning.tri_stage.modality import modality_share
from ..types import Observation

# Velocity and gripper of the simulated robot and of the node; other policies have numbers.
DIMENSIONS = ("x_m_s", "y_m_s", "z_m_s", "gripper")


@dataclass(frozen=True)
class Comparison:
    """One frame.

    Attributes:
        frame: which. pruned, full: the two calls. recorded: (K, A) what was commanded then, or None.
        share_norm, share_attention: part of 2D in the salience of the unpruned call, means per token, 0..1.
        prepare_ms: what both calls need before they begin.
    """

    frame: BagFrame
    pruned: Inference
    full: Inference
    recorded: np.ndarray | None
    share_norm: float
    share_attention: float
    prepare_ms: float

    @property
    def observation(self) -> Observation:
        return self.frame.observation

    @property
    def errors(self) -> np.ndarray:
        """(K, A) pruned minus unpruned, absolute, in units of the action."""
        return np.abs(self.pruned.chunk.actions - self.full.chunk.actions)


def compare(
    frames: Iterable[tuple[BagFrame, np.ndarray | None]], policy: Policy, pruner: Pruner,
    refuse: Callable[[str, str], None],
) -> Iterator[Comparison]:  # fmt: skip
    """Both calls on each frame, with the core of the live node (``PolicyRuntime.infer``).

    The policy's random draws begin anew before each call, so that both calls of a frame draw the same and their
    difference is that of pruning.

    Args:
        frames: with the recorded actions. refuse: told cause and reason of what cannot be acted on.

    Raises:
        ValueError: the policy cannot follow an instruction of the bag.
    """
    keep = KeepEvidence()
    pruned, full = PolicyRuntime(policy, pruner), PolicyRuntime(policy, keep)
    for frame, recorded in frames:
        if frame.begins:
            pruned.reset()
            full.reset()
        try:
            start = time.perf_counter()
            prepared = policy.prepare(frame.observation)  # once: it is the larger part of a call of a small policy
            prepare_ms = (time.perf_counter() - start) * 1e3
            policy.reset()
            unpruned = full.infer(frame.observation, prepared)
            policy.reset()
            inference = pruned.infer(frame.observation, prepared)
        except NotReadyError as error:
            refuse("not ready: too few points", str(error))
            continue
        except NonFiniteActionError as error:
            refuse("actions that are not finite", str(error))
            continue
        evidence, n2 = keep.evidence, unpruned.layout.num_image
        assert evidence is not None
        yield Comparison(
            frame, inference, unpruned, recorded,
            modality_share(evidence.norm, n2), modality_share(evidence.attention, n2), prepare_ms,
        )  # fmt: skip


@dataclass
class _Moments:
    """Mean, maximum and standard deviation of actions, per dimension, without keeping them."""

    count: int = 0
    total: np.ndarray | float = 0.0
    squares: np.ndarray | float = 0.0
    largest: np.ndarray | float = 0.0

    def add(self, values: np.ndarray) -> None:
        """values: (K, A)."""
        values = np.asarray(values, np.float64)
        self.count += len(values)
        self.total = self.total + values.sum(0)
        self.squares = self.squares + (values**2).sum(0)
        self.largest = np.maximum(self.largest, values.max(0))

    @property
    def mean(self) -> np.ndarray:
        return np.asarray(self.total) / self.count

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(np.maximum(np.asarray(self.squares) / self.count - self.mean**2, 0))


@dataclass
class Totals:
    """What a replay comes to. Of a frame nothing is kept but a few numbers, for the plots (``columns``)."""

    columns: dict[str, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    episodes: set[int] = field(default_factory=set)
    errors: _Moments = field(default_factory=_Moments)
    full: _Moments = field(default_factory=_Moments)
    pruned_to_recorded: _Moments = field(default_factory=_Moments)
    full_to_recorded: _Moments = field(default_factory=_Moments)
    instructions: dict[str, int] = field(default_factory=dict)
    kept: int = 0
    tokens: int = 0

    def add(self, one: Comparison) -> dict[str, Any]:
        """Count a frame in; returns its row, which has no time of this machine in it."""
        self.errors.add(one.errors)
        self.full.add(one.full.chunk.actions)
        recorded = one.recorded
        if recorded is not None and recorded.shape == one.errors.shape:
            self.pruned_to_recorded.add(np.abs(one.pruned.chunk.actions - recorded))
            self.full_to_recorded.add(np.abs(one.full.chunk.actions - recorded))
        words = one.observation.instruction
        self.instructions[words] = self.instructions.get(words, 0) + 1
        selection, stats = one.pruned.selection, one.pruned.stats
        self.kept += selection.num_kept
        self.tokens += len(selection.reason)
        row = {
            "stamp_ns": one.observation.stamp_ns,
            "episode": one.frame.episode,
            "image_kept": stats.image_kept,
            "points_kept": stats.points_kept,
            "share_norm": _rounded(one.share_norm),
            "share_attention": _rounded(one.share_attention),
            "predicted_share": _rounded(selection.image_share),
            "error_mean": [_rounded(x) for x in one.errors.mean(0)],
            "error_max": [_rounded(x) for x in one.errors.max(0)],
        }
        shown = {
            "time_s": one.observation.stamp_ns / 1e9,
            "episode": one.frame.episode,
            "share_norm": one.share_norm,
            "share_attention": one.share_attention,
            "keep_ratio": selection.keep_ratio,
            "prepare_ms": one.prepare_ms,
            "pruned_ms": one.pruned.policy_ms,
            "full_ms": one.full.policy_ms,
            **{f"error_{i}": value for i, value in enumerate(one.errors.mean(0))},
        }
        for name, value in shown.items():
            self.columns[name].append(float(value))
        self.episodes.add(one.frame.episode)
        return row

    def summary(self) -> dict[str, Any]:
        """The figures of the whole bag, ready for JSON.

        Raises:
            ValueError: no frame was compared.
        """
        if not self.errors.count:
            raise ValueError("no frame could be acted on: the clouds have too few points in the policy's workspace")
        std = self.full.std
        return {
            "frames": len(self.columns["time_s"]),
            "episodes": len(self.episodes),
            "instructions": self.instructions,
            "keep_ratio": _rounded(self.kept / self.tokens),
            "action_std": named(std),
            "pruned_to_unpruned": _distance(self.errors, std),
            "pruned_to_recorded": _distance(self.pruned_to_recorded, std),
            "unpruned_to_recorded": _distance(self.full_to_recorded, std),
        }


def named(values: Iterable[float]) -> dict[str, float | None]:
    """One value per dimension of the action, by name."""
    values = list(values)
    names = DIMENSIONS if len(values) == len(DIMENSIONS) else [str(i) for i in range(len(values))]
    return {name: _rounded(value) for name, value in zip(names, values)}


def _distance(moments: _Moments, std: np.ndarray) -> dict[str, Any] | None:
    if not moments.count:
        return None
    safe = np.where(std > 1e-6, std, np.nan)
    return {
        "actions": moments.count,
        "mean_abs": named(moments.mean),
        "max_abs": named(np.asarray(moments.largest)),
        "mean_abs_in_std": named(moments.mean / safe),
        "max_abs_in_std": named(np.asarray(moments.largest) / safe),
    }


def _rounded(value: float) -> float | None:
    """Six digits, which a page or a person can use; None for what is not defined."""
    return float(f"{float(value):.6g}") if math.isfinite(value) else None
