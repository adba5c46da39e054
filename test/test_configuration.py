"""Readers of configurations: what is wrong is named, with file, entry and what was meant."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mvla_pruned_ros.configuration.fields import Field, described, fields_of
from mvla_pruned_ros.configuration.reader import from_entries, read_config, read_json, read_yaml, with_words


@dataclass(frozen=True)
class Oven:
    heat: float = described(180.0, "Temperature, degrees.", 0.0, 300.0)
    minutes: int = described(30, "How long.", 1, 600)
    fan: bool = described(False, "Whether air moves.")
    trays: tuple[float, ...] = described((0.1, 0.3), "Heights, m.")

    def __post_init__(self) -> None:
        for name, field in fields_of(self).items():
            if name != "trays":
                field.check(name, getattr(self, name))


def test_entries_become_a_dataclass() -> None:
    assert from_entries(Oven, {}) == Oven()
    made = from_entries(Oven, {"heat": 200, "trays": [0.2]})
    assert made == Oven(heat=200, trays=(0.2,)) and type(made.heat) is int, "as it stands in the file"


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"minuts": 3}, r"unknown entry 'minuts': did you mean 'minutes'\?"),
        ({"zzz": 3}, "unknown entry 'zzz': choose from heat, minutes, fan, trays"),
        ({"minutes": 3.0}, "minutes is 3.0, must be a whole number"),
        ({"minutes": True}, "minutes is True, must be a whole number"),
        ({"heat": "hot"}, "heat is 'hot', must be a number"),
        ({"fan": 1}, "fan is 1, must be true or false"),
        ({"trays": 0.1}, "trays is 0.1, must be a list, each a number"),
        ({"trays": ["low"]}, "trays is .'low'., must be a list, each a number"),
        ({"heat": 301.0}, r"heat must lie in \[0, 300\], got 301.0"),
        ({"heat": math.nan}, "heat must be finite, got nan"),
    ],
)
def test_what_is_wrong_with_an_entry_is_told(entries: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        from_entries(Oven, entries)


def test_files_that_hold_no_entries_are_named(tmp_path: Path) -> None:
    path = tmp_path / "oven.json"
    for text, says in (("{", "oven.json is not JSON"), ("[1]", "oven.json holds no mapping .*list")):
        path.write_text(text)
        with pytest.raises(ValueError, match=says):
            read_json(path)
    path.write_text('{"heet": 3}')
    with pytest.raises(ValueError, match=r"oven.json: unknown entry 'heet': did you mean 'heat'\?"):
        read_config(Oven, path)
    path = tmp_path / "oven.yaml"
    for text, says in (("{", "cannot read .*oven.yaml"), ("[1]", "oven.yaml holds no mapping .*list")):
        path.write_text(text)
        with pytest.raises(ValueError, match=says):
            read_yaml(path)
    with pytest.raises(ValueError, match="cannot read .*nowhere"):
        read_yaml(tmp_path / "nowhere")


def test_words_change_a_dataclass() -> None:
    made = with_words(Oven(minutes=5), ["heat=200", "fan=True"], "setting")
    assert made == Oven(heat=200.0, minutes=5, fan=True) and type(made.heat) is float
    for word, says in (
        ("haet=1", "unknown setting 'haet': did you mean 'heat'"),
        ("heat", "'heat': '' is neither a number nor true or false"),
        ("heat=null", "heat is None, must be a number"),
        ("fan=1", "fan is 1, must be true or false"),
    ):
        with pytest.raises(ValueError, match=says):
            with_words(Oven(), [word], "setting")


def test_words_lists_and_lengths_are_checked() -> None:
    with pytest.raises(ValueError, match="mode must be one of bake, grill, got 'boil'"):
        Field("bake", "", choices=("bake", "grill")).check("mode", "boil")
    corner = Field([0.0] * 3, "")
    with pytest.raises(ValueError, match="corner must have 3 numbers, got 2"):
        corner.check("corner", [1.0, 2.0])
    with pytest.raises(ValueError, match=r"corner must be finite, got \[nan, 0.0, 0.0\]"):
        corner.check("corner", [math.nan, 0.0, 0.0])
    Field([math.nan], "", fixed=True, any_length=True).check("pose", [math.nan, 1.0])
