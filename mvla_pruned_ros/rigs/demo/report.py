"""What ``mvla demo`` has to say in the end: report.json, one table, and one sentence computed from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.table import Table

from ...evaluation.grouping import grouped
from ...reports.terminal import table
from ...sim.robot import robot_class
from ..listener import keep_ratio_of, kept_of, median_of, tokens_of
from .session import UNPRUNED, DemoOptions, EpisodeLog

HARDLY = 1.1  # a call that is not even so many times as fast is hardly worth the pruning


@dataclass
class Played:
    """The episodes of one policy, and the frames that were sent and received in them."""

    options: DemoOptions
    logs: list[EpisodeLog] = field(default_factory=list)
    frames: dict[str, int] = field(default_factory=lambda: {"sent": 0, "received": 0})

    @property
    def pruned(self) -> list[EpisodeLog]:
        """Episodes played in the way that was asked for."""
        return [log for log in self.logs if log.way != UNPRUNED or self.options.method == "none"]

    @property
    def ways(self) -> dict[str, list[EpisodeLog]]:
        """Episodes by the name of their way of pruning, the one that was asked for last."""
        return {way.name: logs for way, logs in grouped(self.logs, lambda log: log.way).items()}


def make_report(played: Played) -> dict[str, Any]:
    """What report.json holds of one policy."""
    options, logs = played.options, played.logs
    asked = list(played.ways)[-1]
    running_s = sum(log.running_s for log in logs)
    simulated_s = sum(log.steps * robot_class(log.task).step_s for log in logs)
    report = {
        "policy": options.policy_name,
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
        **figures(played.ways[asked]),
        **{f"frames_{name}": count for name, count in played.frames.items()},
        "real_time_factor_asked": options.real_time_factor,
        "real_time_factor": round(simulated_s / max(running_s, 1e-3), 3),
    }
    return report | {way: figures(of_way) for way, of_way in played.ways.items() if way != asked}


def figures(logs: Sequence[EpisodeLog]) -> dict[str, Any]:
    """Of episodes that were pruned in one way."""
    calls = [call for log in logs for call in log.inferences]
    policy_ms = median_of(calls, "policy_ms")
    return {
        "success_rate": round(sum(log.success for log in logs) / len(logs), 4),
        "method": logs[0].way.method,
        "keep_ratio_asked": logs[0].way.keep_ratio,
        "keep_ratio": keep_ratio_of(calls),
        "inferences": len(calls),
        "calls_per_second": round(len(calls) / max(sum(log.running_s for log in logs), 1e-3), 1),
        "calls_per_second_possible": round(1e3 / policy_ms, 1) if policy_ms else None,
        "policy_ms_p50": policy_ms,
        "image_to_actions_ms_p50": median_of(calls, "latency_ms"),
        "observation_age_ms_p50": median_of(calls, "age_ms"),
    }


def task_table(played: Played) -> Table:
    """A row for each task."""
    rows = []
    for task, of_task in grouped(played.logs, lambda log: log.task).items():
        calls = [call for log in of_task for call in log.inferences]
        ms = median_of(calls, "policy_ms")
        rows.append((task, _solved(of_task), _steps(of_task), _tokens(calls), "-" if ms is None else f"{ms:.1f}"))
    title = f"{flow([played])}, {figures(played.logs)['calls_per_second']:g} policy calls a second"
    return table(title, ("task", "success", "steps", "tokens kept", "policy ms"), rows)


def compared(runs: Sequence[Played]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the comparison: a column for each policy and way of pruning, on the same scenes."""
    columns = [(played.options.policy_name, way, logs) for played in runs for way, logs in played.ways.items()]
    told = [figures(logs) for _, _, logs in columns]
    head = ["", *("\n".join([policy, *way.split()]) for policy, way, _ in columns)]  # 80 characters are enough
    rows = [["success", *(_solved(logs) for _, _, logs in columns)]]
    for task in dict.fromkeys(log.task for played in runs for log in played.logs):
        of_task = [[log for log in logs if log.task == task] for _, _, logs in columns]
        rows.append([f" {task}", *(_solved(logs) if logs else "" for logs in of_task)])
    rows.append(["steps, mean", *(_steps(logs) for _, _, logs in columns)])
    rows.append(["visual tokens", *(_tokens([c for log in logs for c in log.inferences]) for _, _, logs in columns)])
    for words, key in (
        ("policy call, ms", "policy_ms_p50"),
        ("image to actions, ms", "image_to_actions_ms_p50"),
        ("calls/s, possible", "calls_per_second_possible"),
        ("calls/s, made", "calls_per_second"),
    ):
        rows.append([words, *("-" if one[key] is None else f"{one[key]:.1f}" for one in told)])
    return head, rows


def comparison(runs: Sequence[Played]) -> Table:
    """The comparison for the terminal."""
    head, rows = compared(runs)
    return table(f"{flow(runs)}; times are medians", head, rows)


def verdict(runs: Sequence[Played]) -> str:
    """One sentence on what pruning brought, from the figures of ``compared``; empty where nothing was compared."""
    clauses = []
    for played in runs:
        ways = list(played.ways.values())
        if len(ways) < 2:
            continue
        (full, pruned), name = map(figures, ways), played.options.policy_name
        if not (full["policy_ms_p50"] and pruned["policy_ms_p50"]):
            clauses.append(f"{name} made no calls")
            continue
        ratio = full["policy_ms_p50"] / pruned["policy_ms_p50"]
        words = f"{full['policy_ms_p50']:.1f} to {pruned['policy_ms_p50']:.1f} ms a call"
        gain = f"hardly pays ({words})" if ratio < HARDLY else f"allows {ratio:.1f}x as many calls a second ({words})"
        clauses.append(f"{name}: keeping {pruned['keep_ratio']:.0%} of the visual tokens {gain}, {_lost(*ways)}")
    return "; ".join(clauses) + "." if clauses else ""


# What else a reader of the table has to know.
NOTE = (
    "The first call of an episode keeps all tokens. The camera sets how many calls are made here; simulated time "
    "stands still while its pictures are drawn."
)


def _lost(full: Sequence[EpisodeLog], pruned: Sequence[EpisodeLog]) -> str:
    """How episodes ended otherwise than the same ones unpruned."""
    solved = {(log.task, log.seed) for log in pruned if log.success}
    before = {(log.task, log.seed) for log in full if log.success}
    lost, won = len(before - solved), len(solved - before)
    words = f"{lost or 'no'} episode{'s' if lost > 1 else ''} lost"
    return words + (f" and {won} more solved" if won else "")


def flow(runs: Sequence[Played]) -> str:
    """Frames that were lost, and the pace of the simulation."""
    sent, received = (sum(played.frames[name] for played in runs) for name in ("sent", "received"))
    pace = ", ".join(f"{make_report(played)['real_time_factor']:.2f}" for played in runs)
    return f"{pace} x real time; {sent - received or 'none'} of {sent} frames lost"


def _solved(logs: Sequence[EpisodeLog]) -> str:
    return f"{sum(log.success for log in logs)} / {len(logs)}"


def _steps(logs: Sequence[EpisodeLog]) -> str:
    return f"{np.mean([log.steps for log in logs]):.0f}"


def _tokens(calls: Sequence[dict[str, Any]]) -> str:
    return f"{np.mean(list(map(kept_of, calls))):.0f} / {tokens_of(calls[0])}" if calls else "-"
