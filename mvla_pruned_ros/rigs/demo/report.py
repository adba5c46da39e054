"""What ``mvla demo`` has to say in the end: report.json and one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from ...evaluation.grouping import grouped
from ...reports.terminal import table
from ...sim.robot import robot_class
from ..listener import keep_ratio_of, kept_of, median_of, tokens_of
from .session import DemoOptions, EpisodeLog


def make_report(options: DemoOptions, logs: Sequence[EpisodeLog], frames: dict[str, int]) -> dict[str, Any]:
    """What report.json holds.

    Args:
        logs: of all episodes, those of ``options``' way of pruning last. frames: sent by the simulator and received.
    """
    ways = grouped(logs, lambda log: log.way)
    asked = list(ways)[-1]
    running_s = sum(log.running_s for log in logs)
    simulated_s = sum(log.steps * robot_class(log.task).step_s for log in logs)
    report = {
        "episodes": [
            {
                "task": log.task,
                "method": log.way.method,
                "success": log.success,
                "steps": log.steps,
                "seed": log.seed,
                "keep_ratio": keep_ratio_of(log.inferences),
                "policy_ms_p50": median_of(log.inferences, "policy_ms"),
            }
            for log in logs
        ],
        **figures(ways[asked]),
        **{f"frames_{name}": count for name, count in frames.items()},
        "real_time_factor_asked": options.real_time_factor,
        "real_time_factor": round(simulated_s / max(running_s, 1e-3), 3),
    }
    return report | {way.name: figures(of_way) for way, of_way in ways.items() if way != asked}


def figures(logs: Sequence[EpisodeLog]) -> dict[str, Any]:
    """Of episodes that were pruned in one way."""
    calls = [call for log in logs for call in log.inferences]
    return {
        "success_rate": round(sum(log.success for log in logs) / len(logs), 4),
        "method": logs[0].way.method,
        "keep_ratio_asked": logs[0].way.keep_ratio,
        "keep_ratio": keep_ratio_of(calls),
        "inferences": len(calls),
        "calls_per_second": round(len(calls) / max(sum(log.running_s for log in logs), 1e-3), 1),
        "policy_ms_p50": median_of(calls, "policy_ms"),
        "observation_age_ms_p50": median_of(calls, "age_ms"),
    }


def task_table(logs: Sequence[EpisodeLog], report: dict[str, Any]) -> Table:
    """A row for each task."""
    rows = []
    for task, of_task in grouped(logs, lambda log: log.task).items():
        calls = [call for log in of_task for call in log.inferences]
        ms = median_of(calls, "policy_ms")
        rows.append((task, _solved(of_task), _steps(of_task), _tokens(calls), "-" if ms is None else f"{ms:.1f}"))
    title = f"{_flow(report)}, {report['calls_per_second']:g} policy calls a second"
    return table(title, ("task", "success", "steps", "tokens kept", "policy ms"), rows)


def comparison(logs: Sequence[EpisodeLog], report: dict[str, Any]) -> Table:
    """A column for each way of pruning, on the same scenes."""
    ways = list(grouped(logs, lambda log: log.way).values())
    calls = [[call for log in of_way for call in log.inferences] for of_way in ways]
    told = [figures(of_way) for of_way in ways]
    rows = [("success", *map(_solved, ways))]
    for task in dict.fromkeys(log.task for log in logs):
        rows.append((f"  {task}", *(_solved([log for log in of_way if log.task == task]) for of_way in ways)))
    rows += [
        ("steps of an episode", *map(_steps, ways)),
        ("policy call, ms p50", *(f"{one['policy_ms_p50']:.1f}" if one["inferences"] else "-" for one in told)),
        ("policy calls a second", *(f"{one['calls_per_second']:g}" for one in told)),
        ("visual tokens", *map(_tokens, calls)),
    ]
    return table(_flow(report), ("", *(of_way[0].way.name for of_way in ways)), rows)


def _flow(report: dict[str, Any]) -> str:
    lost = report["frames_sent"] - report["frames_received"]
    return f"{lost} of {report['frames_sent']} frames lost; {report['real_time_factor']:.2f} x real time"


def _solved(logs: Sequence[EpisodeLog]) -> str:
    return f"{sum(log.success for log in logs)} / {len(logs)}"


def _steps(logs: Sequence[EpisodeLog]) -> str:
    return f"{np.mean([log.steps for log in logs]):.0f}"


def _tokens(calls: Sequence[dict[str, Any]]) -> str:
    return f"{np.mean(list(map(kept_of, calls))):.0f} / {tokens_of(calls[0])}" if calls else "-"
