"""Finished episodes on disk, one JSON object per line, so that a sweep that was stopped goes on where it was.

A line holds everything that decides the episode (fingerprint of the policy, task, method, settings, seed) and what
happened. Lines of different commands may lie in one file, and files may be joined with ``cat``.
"""

from __future__ import annotations

import dataclasses
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

from .rollout import Episode

_OUTCOME = tuple(f.name for f in dataclasses.fields(Episode) if f.name not in ("task", "seed"))
_TIMES = ("policy_ms", "select_ms")


class EpisodeLog(AbstractContextManager["EpisodeLog"]):
    """The episodes of one file; use it as a context manager.

    A last line without an end was torn when its process was killed: it is ignored and cut off before the next one is
    written.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there.

        Args:
            path: need not exist; its folder is made when the first episode is added.

        Raises:
            ValueError: no file, or a whole line is not an episode; names file and line.
        """
        if path.exists() and not path.is_file():
            raise ValueError(f"{path}, where finished episodes go, is no file: remove it, or give another --json")
        self.path = path
        self._file: BinaryIO | None = None
        self._episodes: dict[str, Episode] = {}
        content = path.read_bytes() if path.is_file() else b""
        self._whole = content.rfind(b"\n") + 1  # bytes of whole lines
        for number, line in enumerate(content[: self._whole].splitlines(), 1):
            try:
                entry = json.loads(line)
                outcome = {name: entry.pop(name) for name in _OUTCOME}
                outcome |= {name: tuple(outcome[name]) for name in _TIMES}
                self._episodes[_key(entry)] = Episode(entry["task"], entry["seed"], **outcome)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{path}, line {number} is not an episode ({type(error).__name__}: {error}): delete the line, and "
                    "its episode will be run again"
                ) from None

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def find(self, identity: dict[str, Any], seed: int) -> Episode | None:
        """The episode of a setting (see ``Setting.identity``) and a seed, or None where it is still to be run."""
        return self._episodes.get(_key({**identity, "seed": seed}))

    def add(self, identity: dict[str, Any], episode: Episode) -> None:
        """Write one more, at once."""
        entry = {**identity, "seed": episode.seed}
        line = json.dumps({**entry, **{name: getattr(episode, name) for name in _OUTCOME}}, separators=(",", ":"))
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Appending and unbuffered: one line is one write, also beside another process that writes here.
            self._file = self.path.open("ab", buffering=0)
            if self._file.tell() > self._whole and not self.path.read_bytes().endswith(b"\n"):
                self._file.truncate(self._whole)
        self._file.write(line.encode() + b"\n")
        self._episodes[_key(entry)] = episode


def _key(entry: dict[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True)
