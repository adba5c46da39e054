"""Files that a command writes: JSON, and whatever must be there whole or not at all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file to write to in the place of ``path``, which takes its name when all went well. Makes the folder.

    When it did not, what was written is removed, and what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Any, indent: int = 1, **options: Any) -> None:
    """Write a file of JSON, whole or not at all. options: of ``json.dumps``."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content, indent=indent, **options) + "\n")
