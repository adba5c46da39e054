"""The file that holds rows and their means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...configuration.files import written_whole
from .rows import Figures, Row
from .summary import mean_rows, with_differences


def merge(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Old rows, those of ``new`` in the place of their like, then what is really new.

    A row stays when the new one of the same setting has but some of its episodes.
    """
    rows = {row.identity(): row for row in old}
    for row in new:
        known = rows.get(row.identity())
        if known is None or known.episodes <= row.episodes or known.tri_stage != row.tri_stage:
            rows[row.identity()] = row
    return list(rows.values())


def read_rows(path: Path) -> list[Row]:
    """Rows of a result file.

    Raises:
        ValueError: no such file, or of an older format.
    """
    try:
        rows = [Row.from_json(entries) for entries in json.loads(path.read_text())["rows"]]
        for row in rows:
            row.identity()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a file of `mvla evaluate --json`, or of an older format: give another name ({error!r})"
        ) from None
    return rows


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Rows with their differences, and their means over tasks; one a line, so that a changed row is a changed line.

    The file is written whole or not at all.
    """
    blocks: dict[str, Sequence[Figures]] = {"rows": with_differences(rows), "means": mean_rows(rows)}
    texts = []
    for name, block in blocks.items():
        lines = ",\n".join("  " + json.dumps(row.to_json()) for row in block)
        texts.append(f' "{name}": [\n{lines}\n ]')
    with written_whole(path) as partial:
        partial.write_text("{\n" + ",\n".join(texts) + "\n}\n")
