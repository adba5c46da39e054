"""How late a chunk arrives: what a policy call counts for in simulated time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

MOST_FACTOR, MOST_MS = 1000.0, 60_000.0
EPISODES = ".episodes.jsonl"  # how the log of episodes is called, in the place of the ending of the file of rows
FORMS = "none, measured, a factor (2.0x), milliseconds (150 or 150ms), replay:FILE"


@dataclass(frozen=True)
class Latency:
    """What a policy call counts for. At most one is set; none of them: nothing, the chunk is there at once.

    Attributes:
        steps: of the robot. ms: milliseconds. factor: of what each call really takes on this machine.
        file: of rows of a run with a ``factor``: what it counted in the episodes there, see ``EpisodeLog.latencies``.
    """

    steps: int = 0
    ms: float = 0.0
    factor: float = 0.0
    file: str = ""

    @classmethod
    def of(cls, text: str) -> Latency:
        """From a word of the command line, see ``FORMS``.

        Raises:
            ValueError: it is none, or out of bounds; there is no such file.
        """
        if text == "none":
            return cls()
        if text == "measured":
            return cls(factor=1.0)
        if text.startswith("replay:"):
            latency = cls(file=text.removeprefix("replay:"))
            if not latency.log.is_file():
                raise ValueError(
                    f"latency {text}: there is no {latency.log}, where the calls would be: give the --json of that run"
                )
            return latency
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(x|ms)?", text, re.ASCII)
        if match is None:
            raise ValueError(f"latency {text!r} must be one of: {FORMS}")
        value = float(match[1])
        if match[2] == "x":
            if not 0 < value <= MOST_FACTOR:
                raise ValueError(f"latency {text}: the factor must lie in (0, {MOST_FACTOR:g}]")
            return cls(factor=value)
        if value > MOST_MS:
            raise ValueError(f"latency {text} must lie in [0, {MOST_MS:g}] ms")
        return cls(ms=value)

    @property
    def word(self) -> str | None:
        """As on the command line; None for steps, which rows have apart, and for nothing."""
        if self.file:
            return f"replay:{self.file}"
        if self.factor:
            return "measured" if self.factor == 1 else f"{self.factor:g}x"
        return f"{self.ms:g}ms" if self.ms else None

    @property
    def log(self) -> Path:
        """The episodes that belong to ``file``, which may be their log itself."""
        path = Path(self.file)
        return path if path.suffix == ".jsonl" or not path.name else path.with_suffix(EPISODES)

    def fixed_ms(self, step_s: float) -> float:
        """What every call counts for, where that does not depend on the call. step_s: of the robot."""
        return self.steps * step_s * 1e3 + self.ms

    def counting(self, step_s: float, played: Sequence[float] = ()) -> Callable[[float], float]:
        """A function that is told what each call of one episode took, in order, and says what it counts for; ms.

        Args:
            step_s: of the robot. played: what the calls counted for in the run that is played back. Another machine may
                make more calls than that one; those count for the median.
        """
        if self.file:
            counted = iter(played)
            return lambda _: next(counted, median(played) if played else 0.0)
        fixed = self.fixed_ms(step_s)
        return lambda took_ms: round(fixed + self.factor * took_ms, 3)


def whole_steps(ms: float, step_s: float) -> int:
    """Steps until something is there that takes ``ms``: rounded up, but not for what a sum of floats adds."""
    return math.ceil(ms / (step_s * 1e3) - 1e-6)
