"""``mvla faults``: progress while it runs, then a table, and a file for machines."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...configuration.files import write_json
from ...policy.engine.machine import command_line, machine
from ...reports.terminal import ProgressBar, table
from .fuzz import run_fuzz
from .run import Row, chosen, run_matrix
from .stop_trials import SILENT, run_stop_trials, summary

YES, NO = "[green]yes[/]", "[bold red]NO[/]"
SHOWN = 400  # characters of what was observed; the file has all


def matrix(policy: str, names: list[str], domain_id: int | None, file: Path | None) -> int:
    """The fault matrix; returns the exit code."""
    console = Console()
    with _progress(console, "starting the nodes", len(chosen(names))) as progress:

        def show(row: Row) -> None:
            progress.step()
            if not row.passed:
                progress.console.print(f"[bold red]{escape(row.fault)}[/]: {escape(row.observed)}")

        rows = run_matrix(policy, names, domain_id, progress.label, show)
    console.print(_table(rows))
    failed = [row.fault for row in rows if not row.passed]
    console.print(f"{len(rows) - len(failed)} of {len(rows)} as expected" + "".join(f"\n  failed: {f}" for f in failed))
    _write(file, {"rows": [dataclasses.asdict(row) for row in rows], "policy": policy})
    return 1 if failed else 0


def list_faults() -> int:
    """Names and expectations; returns the exit code."""
    rows = [(fault.name, fault.expected) for fault in chosen([])]
    Console().print(table(None, ("fault", "expected"), rows, left=2))
    return 0


def stop_trials(policy: str, count: int, seed: int, domain_id: int | None, file: Path | None) -> int:
    """Stop after sensor loss; returns the exit code: 1 when one was late and the machine did not stand still."""
    console = Console()
    with _progress(console, "stop after sensor loss", count) as progress:
        run = run_stop_trials(policy, count, seed, domain_id, progress.show)
    figures = summary(run)
    rows = []
    for name in (*SILENT, ""):
        trials = [t for t in run.trials if name in (t.stream, "")]
        times = [t.stopped_ms for t in trials if t.stopped_ms is not None]
        late = sum(not t.in_time and not t.by_machine for t in trials)
        rows.append((
            name or "sum", str(len(trials)), str(sum(t.in_time for t in trials)),
            str(sum(t.by_machine for t in trials)), str(late),
            f"{np.median(times):.0f}" if times else "-", f"{max(times):.0f}" if times else "-",
        ))  # fmt: skip
    header = ("silent", "trials", "in time", "machine at rest", "late", "median ms", "worst ms")
    console.print(table(None, header, rows, left=len(header)))
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
    with _progress(console, "malformed messages", count) as progress:
        run = run_fuzz(policy, count, seed, domain_id, progress.show)
    rows = [(stream, str(sent)) for stream, sent in run.sent.items()]
    console.print(table(None, ("input", "malformed messages sent"), rows, left=2))
    console.print("counted by the nodes: " + ", ".join(f"{n} {cause}" for cause, n in sorted(run.counted.items())))
    console.print(
        f"{sum(run.sent.values())} sent; the nodes are {'alive' if run.alive else 'NOT alive'}; {run.beyond} of "
        f"{run.commands} commands not finite or beyond the limits; well again without help {run.recovered} of "
        f"{run.recoveries} times, after {run.worst_s:.1f} s at most"
        + (f"; {escape(run.failure)}" if run.failure else "")
    )
    # A Counter, which ``asdict`` of Python 3.11 does not copy as one.
    result = {**dataclasses.asdict(run), "counted": dict(run.counted), "passed": run.passed}
    _write(file, {**result, "policy": policy, "seed": seed})
    return 0 if run.passed else 1


def _progress(console: Console, text: str, total: int) -> ProgressBar:
    return ProgressBar(text, total, console=console, transient=True)


def _table(rows: list[Row]) -> Table:
    cells = [(row.fault, row.expected, escape(shorten(row.observed, SHOWN)), YES if row.passed else NO) for row in rows]
    return table(None, ("fault", "expected", "observed", ""), cells, left=4, show_lines=True)


def _write(file: Path | None, result: dict[str, Any]) -> None:
    if file is None:
        return
    write_json(file, {**result, "command": command_line(), "machine": machine()}, indent=2)
    print(f"wrote {file}")
