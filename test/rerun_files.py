"""What tests of the view share: files of Rerun read back, and a mark for those that need it."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

rerun = pytest.mark.skipif(
    importlib.util.find_spec("rerun_bindings") is None, reason="Rerun is not installed: the extra view"
)


def rows_of(file: Path) -> Counter[str]:
    """How often each entity of a recording was logged."""
    from rerun.chunk import RrdReader

    rows: Counter[str] = Counter()
    for chunk in RrdReader(file).stream():
        rows[chunk.entity_path] += chunk.num_rows
    return rows


def logged(file: Path, entity: str, component: str) -> list[Any]:
    """Values of a component of an entity, in order."""
    from rerun.chunk import RrdReader

    values = []
    for chunk in RrdReader(file).stream():
        batch = chunk.to_record_batch()
        for name, column in zip(batch.schema.names, batch.columns):
            if chunk.entity_path == entity and name.endswith(component):
                values += column.to_pylist()
    return values
