"""What a check found, as a line that says whether it is well and what to do where it is not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

WIDTH = 5  # of the column of the level


class Level(IntEnum):
    """How a check ended, in the order of severity. UNKNOWN: there was nothing to judge by."""

    OK = 0
    UNKNOWN = 1
    WARN = 2
    FAIL = 3

    @property
    def word(self) -> str:
        """As it is printed."""
        return "?" if self is Level.UNKNOWN else self.name


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        check: what was looked at, as ``image`` or ``controller``. found: in words, with numbers and units.
        remedy: lines to paste or the step to take; empty where nothing is wrong.
    """

    check: str
    level: Level
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, found)


def unknown(check: str, found: str, remedy: str = "") -> Finding:
    """It could not be judged."""
    return Finding(check, Level.UNKNOWN, found, remedy)


def warn(check: str, found: str, remedy: str) -> Finding:
    """It works, but not as it should."""
    return Finding(check, Level.WARN, found, remedy)


def fail(check: str, found: str, remedy: str) -> Finding:
    """The arm would not move, or not as it should."""
    return Finding(check, Level.FAIL, found, remedy)


def exit_code(findings: Iterable[Finding]) -> int:
    """0: all is well or could not be judged; 1: a warning; 2: a failure."""
    worst = max((finding.level for finding in findings), default=Level.OK)
    return max(0, worst - Level.UNKNOWN)


def table(findings: Iterable[Finding]) -> list[str]:
    """A line for each finding, below it the lines of its remedy, which are not wrapped so that they can be pasted."""
    rows = list(findings)
    width = max((len(row.check) for row in rows), default=0)
    indent = " " * (WIDTH + width + 2)
    lines = []
    for row in rows:
        lines.append(f"{row.level.word:{WIDTH}}{row.check:{width}}  {row.found}")
        lines += [f"{indent}> {line}" for line in row.remedy.splitlines()]
    return lines


def summary(findings: Iterable[Finding]) -> str:
    """How many of each level."""
    rows = list(findings)
    counts = {level: sum(row.level is level for row in rows) for level in reversed(Level)}
    words = {Level.FAIL: "failed", Level.WARN: "warned", Level.UNKNOWN: "could not be judged", Level.OK: "OK"}
    return ", ".join(f"{count} {words[level]}" for level, count in counts.items() if count)
