"""``mvla faults``: progress while it runs, then a table, and a file for machines."""

from __future__ import annotations

import dataclasses
import json
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from .run import Row, chosen, run_matrix


def matrix(policy: str, names: list[str], domain_id: int | None, file: Path | None) -> int:
    """The fault matrix; returns the exit code."""
    console = Console()
    with _progress(console) as progress:
        bar = progress.add_task("starting the nodes", total=len(chosen(names)))
        rows = run_matrix(
            policy, names, domain_id, lambda name, done, _: progress.update(bar, completed=done, description=name)
        )
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


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True)


def _table(rows: list[Row]) -> Table:
    table = Table("fault", "expected", "observed", "", title_justify="left", show_lines=True)
    for row in rows:
        table.add_row(row.fault, row.expected, row.observed, "[green]yes[/]" if row.passed else "[bold red]NO[/]")
    return table


def _write(file: Path | None, result: dict[str, Any]) -> None:
    if file is None:
        return
    machine = {"system": platform.platform(), "python": platform.python_version(), "cpu": platform.processor()}
    command = "mvla " + shlex.join(sys.argv[1:])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**result, "command": command, "machine": machine}, indent=2) + "\n")
    print(f"wrote {file}")
