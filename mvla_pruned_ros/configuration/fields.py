"""A value that can be set, with what it means and its bounds: a field of a dataclass, or a parameter of a node."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

_KEY = "field"


@dataclass(frozen=True)
class Field:
    """One value.

    Attributes:
        default: its type is the type of the value. text: meaning and unit. low, high: bounds, both allowed.
        fixed: is not changed after the start. choices: allowed words.
        any_length: a list may be of another length than the default.
    """

    default: Any
    text: str
    low: float | None = None
    high: float | None = None
    fixed: bool = False
    choices: tuple[str, ...] = ()
    any_length: bool = False

    def check(self, name: str, value: Any) -> None:
        """Refuse a value, of the right type, that is not allowed.

        Raises:
            ValueError: names the field, the value and what is allowed.
        """
        if isinstance(self.default, list):
            if len(value) != len(self.default) and not self.any_length:
                raise ValueError(f"{name} must have {len(self.default)} numbers, got {len(value)}")
            if not self.fixed and not all(math.isfinite(v) for v in value):
                raise ValueError(f"{name} must be finite, got {list(value)}")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
        elif self.choices and value not in self.choices:
            raise ValueError(f"{name} must be one of {', '.join(self.choices)}, got {value!r}")
        elif self.low is not None and self.high is not None and not self.low <= value <= self.high:
            raise ValueError(f"{name} must lie in [{self.low:g}, {self.high:g}], got {value}")


def described(default: Any, text: str, low: float | None = None, high: float | None = None) -> Any:
    """A field of a dataclass that carries a ``Field``."""
    return dataclasses.field(default=default, metadata={_KEY: Field(default, text, low, high)})


def fields_of(kind: Any) -> dict[str, Field]:
    """What the fields of a dataclass carry, by name; kind: the class or an instance."""
    return {f.name: f.metadata[_KEY] for f in dataclasses.fields(kind)}
