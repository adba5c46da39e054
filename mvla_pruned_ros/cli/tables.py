"""``mvla tables``: the results of ``mvla evaluate --json`` as tables in markdown, for a document."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..sim.libero.tasks import SUITES

if TYPE_CHECKING:
    from ..evaluation.success.rows import Row

SUMMARY = "results of evaluate as tables in markdown"
EPILOG = """examples:
  mvla tables docs/benchmarks/success.json
  mvla tables out/a.json out/b.json --tasks pick-place plate-slide      means over these tasks only
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="of `mvla evaluate --json`; later ones win")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="rows of these tasks or suites only (default: all)")


def run(args: argparse.Namespace) -> int:
    """Read, select, print."""
    from ..evaluation.success.row_file import merge, read_rows
    from ..evaluation.success.tables import document

    rows: list[Row] = []
    for path in args.files:
        rows = merge(rows, read_rows(path))
    known = dict.fromkeys(r.task for r in rows)
    wanted: set[str] = set()
    for task in args.tasks or ():
        found = known.keys() & {task, *SUITES.get(task, ())}
        if not found:
            raise ValueError(f"no rows of task {task!r}: there are {', '.join(known)}")
        wanted |= found
    print(document([r for r in rows if not args.tasks or r.task in wanted]), end="")
    return 0
