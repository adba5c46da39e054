"""Policies that come with the package."""

from __future__ import annotations

import difflib
from pathlib import Path

SHIPPED = tuple(sorted(path.parent.name for path in Path(__file__).parent.glob("*/config.json")))


def policy_folder(name_or_path: str) -> Path:
    """Folder of a shipped policy by name, or the given path.

    Raises:
        ValueError: neither; the message lists the shipped ones.
    """
    if name_or_path in SHIPPED:
        return Path(__file__).parent / name_or_path
    path = Path(name_or_path).expanduser()
    if not name_or_path or not path.is_dir():
        near = difflib.get_close_matches(name_or_path, SHIPPED, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no policy {name_or_path!r}: {hint}give a folder or one of the shipped: {', '.join(SHIPPED)}")
    return path
