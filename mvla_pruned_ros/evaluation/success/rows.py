"""Rows: the episodes of one task and setting summed up, and means of them over tasks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...pruning.tri_stage.config import TriStageConfig
from ...sim.tasks import task_named
from .intervals import wilson_interval
from .rollout import Episode
from .sweep import Setting

# Rows that agree in these, in policy, device and circumstances are of one setting and the same first seed.
IDENTITY = ("task", "method", "aim", "pruning", "instruction_of", "first_seed")
DIFFERENCE = "minus_"  # in the names of differences
NEWER = (
    "keep_steady",
    "match_steady",
    "sensors",
    "device",
    "latency",
    "replan",
    "completion_s",
    "path_m",
    "jerk_m_s3",
    "completion_by_seed",
)  # left out where they are not known
OLD_REPLAN = 4  # of rows that name none


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What rows and means have in common.

    Attributes:
        policy: ``name`` and ``fingerprint``. method, keep_asked: pruning. keep_measured: what the policy calls spent
            (``Selection.spent_ratio``), their mean. keep_steady: of those after the first of each episode, which is
            full for all. match_steady: the ``keep_steady`` that ``keep_asked`` was chosen for, see ``match``; None
            where it was given.
        pruning: settings of tri_stage that differ from the policy's own. tri_stage: all its settings, None for other
            methods. delay: steps. latency: where it is none of steps, see ``Latency.word``. replan: steps from one
            observation to the next. device: where the policy ran. None in rows of older versions, these three.
        sensors: what the robot was seen through, see ``sim.degradation``; None for perfect ones.
        instruction_of: the task whose instruction was given, None: the task's own. first_seed, episodes: of each task.
        interval: 95 % interval of the success rate. policy_ms_p50, selection_ms_p50: median over all calls.
        completion_s, path_m, jerk_m_s3: means over the episodes that succeeded, see ``Episode``; None where none did,
        and in rows of older versions.
        differences: by names like ``minus_none``: difference of success rates, low and high end of its 95 % interval;
            None where there is nothing to compare with. ``completion_minus_none``: of ``completion_s``, over the
            episodes that both solved; missing where that is not known. See ``with_differences``.
    """

    # The entries of a file in their order; differences follow.
    ORDER: ClassVar[tuple[str, ...]]

    policy: dict[str, str]
    method: str
    keep_asked: float
    keep_measured: float | None
    keep_steady: float | None = None
    match_steady: float | None = None
    pruning: dict[str, Any]
    tri_stage: dict[str, Any] | None
    delay: int
    latency: str | None = None
    replan: int | None = None
    sensors: str | None = None
    device: str | None = None
    instruction_of: str | None
    first_seed: int
    episodes: int
    interval: list[float]
    policy_ms_p50: float | None
    selection_ms_p50: float | None
    completion_s: float | None = None
    path_m: float | None = None
    jerk_m_s3: float | None = None
    differences: dict[str, list[float] | None] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Observed success rate."""
        raise NotImplementedError

    @property
    def ran_on(self) -> str:
        """Device of the policy. Older versions knew the CPU alone, and named none."""
        return self.device or "cpu"

    @property
    def circumstances(self) -> tuple[int, str | None, int, str | None]:
        """When observations are taken and chunks arrive, and through what: delay, latency, replan, sensors."""
        return self.delay, self.latency, self.replan or OLD_REPLAN, self.sensors

    @property
    def conditions(self) -> tuple[Any, ...]:
        """Rows can stand in one document when these agree: policy, device, circumstances and seeds."""
        return self.policy["fingerprint"], self.ran_on, *self.circumstances, self.first_seed, self.episodes

    @property
    def setting(self) -> str:
        """Rows have a common mean when this agrees."""
        exchanged = self.instruction_of is not None
        return json.dumps([*self.conditions, exchanged, self.method, *self.aim, self.pruning, self.tri_stage])

    @property
    def aim(self) -> tuple[str, float]:
        """What the rows of a comparison have in common: the keep ratio that was asked for, or that was to be spent."""
        return ("asked", self.keep_asked) if self.match_steady is None else ("steady", self.match_steady)

    def to_json(self) -> dict[str, Any]:
        """Entries of a result file."""
        names = (name for name in self.ORDER if name not in NEWER or getattr(self, name) is not None)
        return {name: getattr(self, name) for name in names} | self.differences


@dataclass(frozen=True, kw_only=True)
class Row(Figures):
    """One task.

    Attributes:
        successes: of the episodes. partner_successes: reached the goal that the exchanged instruction asks for.
        steps_median: of the successful episodes. success_by_seed: 0 or 1, from the first seed. completion_by_seed:
            simulated seconds until success, None without; None in rows of older versions.
        command, machine: that made the row.
    """

    ORDER = (
        "policy", "task", "method", "keep_asked", "keep_measured", "keep_steady", "match_steady", "pruning",
        "tri_stage", "delay", "latency", "replan", "sensors", "device", "instruction_of", "first_seed", "episodes",
        "successes", "interval", "partner_successes", "steps_median", "completion_s", "path_m", "jerk_m_s3",
        "policy_ms_p50", "selection_ms_p50", "success_by_seed", "completion_by_seed", "command", "machine",
    )  # fmt: skip

    task: str
    successes: int
    partner_successes: int | None
    steps_median: float | None
    success_by_seed: list[int]
    completion_by_seed: list[float | None] | None = None
    command: str = ""
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.successes / self.episodes

    @property
    def solved(self) -> list[bool]:
        """Success by episode."""
        return [bool(x) for x in self.success_by_seed]

    def identity(self) -> str:
        """Which setting and first seed it is of; a newer row of the same takes its place."""
        own = (getattr(self, name) for name in IDENTITY)
        return json.dumps([self.policy["fingerprint"], self.ran_on, *self.circumstances, *own])

    @classmethod
    def from_json(cls, entries: dict[str, Any]) -> Row:
        """A row from entries of a result file.

        Raises:
            TypeError: entries are missing, or there are others.
        """
        differences = {name: value for name, value in entries.items() if DIFFERENCE in name}
        return cls(**{name: entries[name] for name in entries if name not in differences}, differences=differences)


@dataclass(frozen=True, kw_only=True)
class MeanRow(Figures):
    """Means over tasks, each of which weighs alike.

    Attributes:
        tasks: their names. success: mean success rate.
    """

    ORDER = (
        "policy", "method", "keep_asked", "match_steady", "pruning", "tri_stage", "delay", "latency", "replan",
        "sensors", "instruction_of", "first_seed", "device", "episodes", "tasks", "success", "interval",
        "completion_s", "path_m", "jerk_m_s3", "keep_measured", "keep_steady", "policy_ms_p50", "selection_ms_p50",
    )  # fmt: skip

    tasks: list[str]
    success: float

    @property
    def rate(self) -> float:
        return self.success


def row(setting: Setting, episodes: Sequence[Episode], own: TriStageConfig) -> Row:
    """Sum the episodes of one setting up.

    Args:
        setting, episodes: what was run, in the order of the seeds. own: the tri_stage settings of the policy itself.
    """
    successes = sum(e.success for e in episodes)
    solved = [e.steps for e in episodes if e.success]
    calls = [len(e.policy_ms) for e in episodes]
    kept = [e.keep_ratio or 0.0 for e in episodes]
    asked = setting.tri_stage
    known = all(e.completion_s is not None for e in episodes if e.success)  # not in older logs
    return Row(
        policy={"name": Path(setting.policy).name, "fingerprint": setting.fingerprint},
        task=setting.task,
        method=setting.method,
        keep_asked=setting.keep,
        keep_measured=round(float(np.average(kept, weights=calls)), 4) if sum(calls) else None,
        keep_steady=_steady(episodes),
        match_steady=setting.match_steady,
        pruning={k: v for k, v in asked.items() if v != getattr(own, k)} if asked else {},
        tri_stage=asked,
        delay=setting.latency.steps,
        latency=setting.latency.word,
        replan=episodes[0].replan,
        sensors=setting.sensors or None,
        device=setting.device,
        instruction_of=task_named(setting.task).partner if setting.swap else None,
        first_seed=episodes[0].seed,
        episodes=len(episodes),
        successes=successes,
        interval=[round(x, 4) for x in wilson_interval(successes, len(episodes))],
        partner_successes=sum(e.partner_success for e in episodes) if setting.swap else None,
        steps_median=float(np.median(solved)) if solved else None,
        completion_s=_mean_of(e.completion_s for e in episodes if e.success),
        path_m=_mean_of(e.path_m for e in episodes if e.success),
        jerk_m_s3=_mean_of(e.jerk_m_s3 for e in episodes if e.success),
        policy_ms_p50=_median(t for e in episodes for t in e.policy_ms),
        selection_ms_p50=_median(t for e in episodes for t in e.select_ms),
        success_by_seed=[int(e.success) for e in episodes],
        completion_by_seed=[e.completion_s for e in episodes] if known else None,
    )


def _steady(episodes: Sequence[Episode]) -> float | None:
    """Mean of all calls but the first of each episode; None where that is not known."""
    later = [(e.keep_steady, len(e.policy_ms) - 1) for e in episodes if len(e.policy_ms) > 1]
    if not later or any(kept is None for kept, _ in later):
        return None
    return round(sum((kept or 0.0) * calls for kept, calls in later) / sum(calls for _, calls in later), 4)


def _median(values: Iterable[float]) -> float | None:
    listed = list(values)
    return round(float(np.median(listed)), 3) if listed else None


def _mean_of(values: Iterable[float | None]) -> float | None:
    """None where there are none, or where one is not known."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return round(float(np.mean(known)), 4) if known and len(known) == len(listed) else None
