"""The tasks of the simulated robots, by name. Needs no simulator."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What is to be done.

    Attributes:
        name: by which users call it. instruction: the words the policy is given.
        max_steps: an episode that has not succeeded by then has failed.
        partner: task that shares this scene, so that only the instruction tells them apart.
    """

    name: str
    instruction: str
    max_steps: int = 250
    partner: str | None = None


def all_tasks() -> Mapping[str, Task]:
    """Every task there is, by its name."""
    from .libero.tasks import LIBERO_TASKS
    from .metaworld.tasks import TASKS

    return {**TASKS, **LIBERO_TASKS}


def task_named(name: str) -> Task:
    """The task called ``name``.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    from .libero.tasks import SUITES
    from .metaworld.tasks import TASKS

    tasks = all_tasks()
    try:
        return tasks[name]
    except KeyError:
        near = difflib.get_close_matches(name, tasks, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        suites = ", ".join(f"{suite}/0 to /9" for suite in SUITES)
        raise ValueError(f"unknown task {name!r}: {hint}choose from {', '.join(TASKS)}, {suites}") from None


def is_libero(name: str) -> bool:
    """Whether a task is one of LIBERO's robot; the others are of Meta-World's.

    Raises:
        ValueError: as ``task_named``.
    """
    from .libero.tasks import LIBERO_TASKS

    return task_named(name).name in LIBERO_TASKS


def expand_tasks(names: list[str]) -> list[str]:
    """Names of tasks, those of a suite in the place of its name.

    Raises:
        ValueError: as ``task_named``.
    """
    from .libero.tasks import SUITES

    return [name for given in names for name in SUITES.get(given) or (task_named(given).name,)]
