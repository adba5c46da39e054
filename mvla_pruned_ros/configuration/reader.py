"""Configurations from files and from words of a command: dataclasses, all of whose fields have defaults.

What a field may hold follows from its default. What is wrong is told by its name, and an unknown name with the nearest
known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

Config = TypeVar("Config")

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", dict: "a mapping"}


def read_json(path: Path) -> dict[str, Any]:
    """The entries of a JSON object.

    Raises:
        ValueError: not JSON, or no object.
        OSError: the file cannot be read.
    """
    try:
        entries = json.loads(path.read_text())
    except ValueError as error:  # not JSON, or not even text
        raise ValueError(f"{path} is not JSON: {error}") from error
    return _mapping(entries, path)


def read_yaml(path: Path) -> dict[str, Any]:
    """The entries of a YAML mapping.

    Raises:
        ValueError: not YAML, no mapping, or the file cannot be read.
    """
    import yaml

    try:
        entries = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    return _mapping(entries, path)


def from_entries(kind: type[Config], entries: Mapping[str, Any], what: str = "entry") -> Config:
    """A dataclass from entries of a file; lists become tuples.

    Args:
        what: an entry is called in messages.

    Raises:
        ValueError: unknown or ill-typed entries, or values that the dataclass refuses.
    """
    defaults = _defaults(kind)
    check_names(entries, defaults, what)
    for name, value in entries.items():
        _check_type(name, value, defaults[name])
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in entries.items()})


def read_config(kind: type[Config], path: Path, entries: Mapping[str, Any] | None = None) -> Config:
    """A dataclass from a JSON file. entries: in the place of what is in the file.

    Raises:
        ValueError: see ``read_json`` and ``from_entries``; names the file too.
        OSError: the file cannot be read.
    """
    entries = read_json(path) if entries is None else entries
    try:
        return from_entries(kind, entries)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def with_words(config: Config, words: Iterable[str], what: str) -> Config:
    """A dataclass of numbers and truth values, changed by words NAME=VALUE. what: a field is called in messages.

    Raises:
        ValueError: unknown name, or a value that does not fit.
    """
    defaults = _defaults(type(config))
    values: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        check_names([name], defaults, what)
        try:
            value = json.loads(text.lower())
        except json.JSONDecodeError:
            raise ValueError(f"{word!r}: {text!r} is neither a number nor true or false") from None
        _check_type(name, value, defaults[name])
        values[name] = type(defaults[name])(value)  # a whole number may stand for a float
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def check_names(names: Iterable[str], known: Collection[str], what: str) -> None:
    """Refuse names that are not known.

    Raises:
        ValueError: names them, and the known one that is nearest to the first.
    """
    unknown = [str(name) for name in names if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
        raise ValueError(f"unknown {what} {', '.join(map(repr, unknown))}: {hint}")


def _mapping(entries: Any, path: Path) -> dict[str, Any]:
    if not isinstance(entries, dict):
        raise ValueError(f"{path} holds no mapping of names to values, but {type(entries).__name__}")
    return entries


def _defaults(kind: Any) -> dict[str, Any]:
    factory = dataclasses.MISSING
    return {
        f.name: f.default if f.default_factory is factory else f.default_factory() for f in dataclasses.fields(kind)
    }


def _check_type(name: str, value: Any, default: Any) -> None:
    if not _fits(value, default):
        if isinstance(default, tuple):
            words = f"a list, each {_WORDS[type(default[0])]}" if default else "a list"
        else:
            words = _WORDS[type(default)]
        raise ValueError(f"{name} is {value!r}, must be {words}")


def _fits(value: Any, default: Any) -> bool:
    """Whether a value is of the type of the default; a whole number may stand for a float."""
    if default is None:
        return True
    if isinstance(default, tuple):
        return isinstance(value, (list, tuple)) and (not default or all(_fits(v, default[0]) for v in value))
    if isinstance(default, float):
        return type(value) in (int, float)
    return type(value) is type(default)
