"""The fit from end to end: record, search, judge, also on what was held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...pruning.tri_stage.config import TriStageConfig
from .descent import MIN_GAIN, Grid, neighbours
from .recorded import HORIZON, RecordedEpisode
from .sweep import CalibrationSweep

MEASURE = f"mean absolute change of the next {HORIZON} actions, relative to random pruning at the same keep ratio"
FIGURES = 5  # settings that are judged beside those that are tried: random, defaults before and after, fitted, schedule

Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Effort:
    """How much is tried.

    Attributes:
        keep_ratios: that errors are averaged over. rounds: at most so many through all parameters of the grid.
        workers: processes. min_gain: of a step, relatively.
    """

    keep_ratios: tuple[float, ...]
    rounds: int
    workers: int
    min_gain: float = MIN_GAIN

    def most_settings(self, grid: Grid) -> int:
        """How many settings are judged at most."""
        return FIGURES + self.rounds * sum(1 for _ in neighbours(TriStageConfig(stage_modality=True), grid))


@dataclass(frozen=True)
class Fit:
    """What came out.

    Attributes:
        settings: that were found. fitted, held_out: errors of ``relative_errors`` by what was judged; the second is
            empty where nothing was held out.
    """

    settings: TriStageConfig
    fitted: Figures
    held_out: Figures

    def to_json(self, about: dict[str, Any], about_held_out: dict[str, Any]) -> dict[str, Any]:
        """What is in ``pruning.json``. about, about_held_out: what was fitted to, and judged on."""
        return {
            "tri_stage": dataclasses.asdict(self.settings),
            "fitted": {**about, "measure": MEASURE, **self.fitted},
            "held_out": {**about_held_out, **self.held_out},
        }


def fit(
    policy: Path, episodes: Sequence[RecordedEpisode], held_out: Sequence[RecordedEpisode], effort: Effort, grid: Grid,
    told: Callable[[str], None], on_setting: Callable[[], None],
) -> Fit:  # fmt: skip
    """Fit the pruning parameters of a policy folder to recorded episodes.

    Args:
        held_out: judged once, at the end; may be empty. told: lines about how it goes. on_setting: called whenever one
            setting has been judged.

    Raises:
        ValueError: the policy cannot follow an instruction, or pruning moves none of its actions.
    """
    with CalibrationSweep(policy, episodes, effort.keep_ratios, effort.workers, on_setting) as sweep:
        sweep.record()
        before = sweep.relative_errors("tri_stage", TriStageConfig())
        told(f"defaults: {mean_error(before):.4f} of the action error of random pruning")

        def on_better(name: str, config: TriStageConfig, error: float) -> None:
            told(f"  {name} = {getattr(config, name)}: {error:.4f}")

        best = sweep.fit(TriStageConfig(), effort.rounds, on_better, grid, effort.min_gain)
        schedule = sweep.schedule
        fitted = {
            "defaults": before,
            "calibrated": sweep.relative_errors("tri_stage", best),
            "schedule": sweep.relative_errors("schedule", schedule),
        }
    if not held_out:
        return Fit(best, fitted, {})
    with CalibrationSweep(policy, held_out, effort.keep_ratios, effort.workers) as sweep:
        sweep.record()
        judged = {
            "defaults": sweep.relative_errors("tri_stage", TriStageConfig()),
            "calibrated": sweep.relative_errors("tri_stage", best),
            "schedule": sweep.relative_errors("schedule", schedule),
            "schedule of their own": sweep.relative_errors("schedule", sweep.schedule),
        }
    return Fit(best, fitted, judged)


def mean_error(errors: dict[str, float]) -> float:
    """Mean over groups and keep ratios."""
    return sum(errors.values()) / len(errors)
