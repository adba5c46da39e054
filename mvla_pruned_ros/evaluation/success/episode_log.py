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

from .lateness import Latency
from .rollout import Episode

_OUTCOME = {f.name: f.default for f in dataclasses.fields(Episode) if f.name not in ("task", "seed")}
_NEW = {name for name, default in _OUTCOME.items() if default is not dataclasses.MISSING}  # not in older logs
_TIMES = ("policy_ms", "select_ms", "latency_ms")
_OF_LATENCY = ("delay", "latency")  # what an identity says of it


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
        self._measured: dict[str, dict[str, Episode]] = {}  # by identity without, and then by word of, the latency
        content = path.read_bytes() if path.is_file() else b""
        self._whole = content.rfind(b"\n") + 1  # bytes of whole lines
        for number, line in enumerate(content[: self._whole].splitlines(), 1):
            try:
                entry = json.loads(line)
                outcome = {name: entry.pop(name) for name in _OUTCOME if name in entry or name not in _NEW}
                outcome |= {name: tuple(outcome[name]) for name in _TIMES if name in outcome}
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

    def latencies(self, identity: dict[str, Any], seed: int) -> tuple[float, ...]:
        """What the calls of an episode counted for when they were measured, milliseconds.

        Args:
            identity, seed: of an episode; those of the latency are left aside.

        Raises:
            ValueError: there is no such episode, or one for each of several factors.
        """
        if not self._measured:
            for key, episode in self._episodes.items():
                entry = json.loads(key)
                word = entry.get("latency")
                if word and Latency.of(word).factor:
                    self._measured.setdefault(_without_latency(entry), {})[word] = episode
        found = self._measured.get(_without_latency({**identity, "seed": seed}), {})
        if len(found) != 1:
            what = f"{' and '.join(found)} of" if found else "no measured latency of"
            raise ValueError(
                f"{self.path} holds {what} {identity['task']}, {identity['method']} at keep ratio "
                f"{identity['keep']:g}, seed {seed}, with the same policy and settings: give the file of one measured "
                "run, and its options"
            )
        return next(iter(found.values())).latency_ms

    def add(self, identity: dict[str, Any], episode: Episode) -> None:
        """Write one more, at once."""
        entry = {**identity, "seed": episode.seed}
        outcome = {
            name: value for name in _OUTCOME if (value := getattr(episode, name)) is not None or name not in _NEW
        }
        line = json.dumps({**entry, **outcome}, separators=(",", ":"))
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


def _without_latency(entry: dict[str, Any]) -> str:
    return _key({name: value for name, value in entry.items() if name not in _OF_LATENCY})
