"""``mvla faults``: progress while it runs, then a table, and a file for machines."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ...policy.engine.machine import machine
from ..child_process import ChildFailedError
from .fuzz import run_fuzz
from .run import Row, chosen, run_matrix
from .session import NodeFailedError
from .stop_trials import SILENT, run_stop_trials, summary

SHOWN = 400  # characters of what was observed; the file has all

Run = TypeVar("Run")


def matrix(policy: str, names: list[str], domain_id: int | None, file: Path | None) -> int:
    """The fault matrix; returns the exit code."""
    console = Console()
    with _progress(console) as progress:
        bar = progress.add_task("starting the nodes", total=len(chosen(names)))

        def show(row: Row) -> None:
            progress.advance(bar)
            if not row.passed:
                progress.console.print(f"[bold red]{escape(row.fault)}[/]: {escape(row.observed)}")

        rows = run_matrix(policy, names, domain_id, lambda name: progress.update(bar, description=name), show)
    console.print(_table(rows))
    failed = [row.fault for row in rows if not row.passed]
    console.print(f"{len(rows) - len(failed)} of {len(rows)} as expected" + "".join(f"\n  failed: {f}" for f in failed))
    _write(file, {"rows": [dataclasses.asdict(row) for row in rows], "policy": policy})
    return 1 if failed else 0


def list_faults() -> int:
    """Names and expectations; returns the exit code."""
    table = Table("fault", "expected", title_justify="left")
    for fault in chosen([]):
        table.add_row(fault.name, fault.expected)
    Console().print(table)
    return 0


def stop_trials(policy: str, count: int, seed: int, domain_id: int | None, file: Path | None) -> int:
    """Stop after sensor loss; returns the exit code: 1 when one was late and the machine did not stand still."""
    console = Console()
    run = _counted(
        console, "stop after sensor loss", count, lambda done: run_stop_trials(policy, count, seed, domain_id, done)
    )
    if run is None:
        return 1
    figures = summary(run)
    table = Table(
        "silent", "trials", "in time", "machine at rest", "late", "median ms", "worst ms", title_justify="left"
    )
    for name in (*SILENT, ""):
        trials = [t for t in run.trials if name in (t.stream, "")]
        times = [t.stopped_ms for t in trials if t.stopped_ms is not None]
        late = sum(not t.in_time and not t.by_machine for t in trials)
        table.add_row(
            name or "sum", str(len(trials)), str(sum(t.in_time for t in trials)),
            str(sum(t.by_machine for t in trials)), str(late),
            f"{np.median(times):.0f}" if times else "-", f"{max(times):.0f}" if times else "-",
        )  # fmt: skip
    console.print(table)
    console.print(
        f"limit {figures['limit_ms']:g} ms after the last message; {figures['false_stops']} false stops in "
        f"{figures['healthy_s']:g} s between the trials, and {figures['stops_with_the_machine_at_rest']} while the "
        "machine stood still"
    )
    _write(file, {**figures, "policy": policy, "seed": seed, "rows": [dataclasses.asdict(t) for t in run.trials]})
    return 1 if figures["late"] else 0


def fuzz(policy: str, count: int, seed: int, domain_id: int | None, file: Path | None) -> int:
    """Malformed messages over DDS; returns the exit code."""
    console = Console()
    run = _counted(console, "malformed messages", count, lambda done: run_fuzz(policy, count, seed, domain_id, done))
    if run is None:
        return 1
    table = Table("input", "malformed messages sent")
    for stream, sent in run.sent.items():
        table.add_row(stream, str(sent))
    console.print(table)
    console.print("counted by the nodes: " + ", ".join(f"{n} {cause}" for cause, n in sorted(run.counted.items())))
    console.print(
        f"{sum(run.sent.values())} sent; the nodes are {'alive' if run.alive else 'NOT alive'}; {run.beyond} of "
        f"{run.commands} commands not finite or beyond the limits; well again without help {run.recovered} of "
        f"{run.recoveries} times, after {run.worst_s:.1f} s at most"
        + (f"; {escape(run.failure)}" if run.failure else "")
    )
    _write(file, {**dataclasses.asdict(run), "passed": run.passed, "policy": policy, "seed": seed})
    return 0 if run.passed else 1


def _counted(console: Console, what: str, total: int, run: Callable[[Callable[[int], None]], Run]) -> Run | None:
    """What a run gives, with a bar that the run moves; None, and an error is printed, when a node failed."""
    with _progress(console) as progress:
        bar = progress.add_task(what, total=total)
        try:
            return run(lambda done: progress.update(bar, completed=done))
        except (NodeFailedError, ChildFailedError) as error:
            print(f"mvla faults: error: {error}", file=sys.stderr)
            return None


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True)


def _table(rows: list[Row]) -> Table:
    table = Table("fault", "expected", "observed", "", title_justify="left", show_lines=True)
    for row in rows:
        passed = "[green]yes[/]" if row.passed else "[bold red]NO[/]"
        table.add_row(row.fault, row.expected, escape(shorten(row.observed, SHOWN)), passed)
    return table


def _write(file: Path | None, result: dict[str, Any]) -> None:
    if file is None:
        return
    command = "mvla " + shlex.join(sys.argv[1:])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**result, "command": command, "machine": machine()}, indent=2) + "\n")
    print(f"wrote {file}")
