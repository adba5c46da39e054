"""Why pictures were not used, counted and put into a sentence."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


class Reasons:
    """Reasons and how often each was met. Those that differ in numbers only are one, told by the first of them."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, reason: str, count: int = 1) -> None:
        key = NUMBER.sub("#", reason)
        self._first.setdefault(key, reason)
        self._counts[key] += count

    def update(self, other: Reasons) -> None:
        """Add those of another."""
        for reason, count in other.counts.items():
            self.add(reason, count)

    @property
    def counts(self) -> dict[str, int]:
        """Reason -> count, the most frequent first."""
        return {self._first[key]: count for key, count in self._counts.most_common()}

    @property
    def total(self) -> int:
        return self._counts.total()

    def report(self, pictures: int) -> dict[str, Any]:
        """Of so many pictures, ready for JSON."""
        return {"pictures": self.total, "of": pictures, "reasons": self.counts}

    def sentence(self, pictures: int) -> str:
        """What became of so many pictures, as "4 of 8 not used: ..."; empty when all were used."""
        counts = self.counts
        if not counts:
            return ""
        words = "; ".join(counts) if len(counts) == 1 else "; ".join(f"{n} x {why}" for why, n in counts.items())
        return f"{self.total} of {pictures} not used: {words}"
