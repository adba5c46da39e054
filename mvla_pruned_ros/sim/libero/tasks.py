"""The tasks of LIBERO (Liu et al. 2023, arXiv 2306.03310), each in two kinds of scenes. Needs no simulator."""

from __future__ import annotations

from dataclasses import dataclass

from ..tasks import Task

SCATTERED = "_scattered"  # how names of suites with scattered scenes end


@dataclass(frozen=True)
class LiberoTask(Task):
    """One task, called ``suite/number``.

    Attributes:
        suite, number: LIBERO's own.
        scattered: the scene is drawn by the seed, see ``scenes``; else it is one of the benchmark's 50 initial states,
            chosen by the seed modulo 50.
    """

    suite: str = ""
    number: int = 0
    scattered: bool = False


# What differs between the instructions of a suite, in LIBERO's order, and the horizon of the published tables in steps
# of 50 ms (openvla-oft, experiments/robot/libero).
_OBJECTS = (
    "alphabet soup", "cream cheese", "salad dressing", "bbq sauce", "ketchup", "tomato sauce", "butter", "milk",
    "chocolate pudding", "orange juice",
)  # fmt: skip
_PLACES = (
    "between the plate and the ramekin", "next to the ramekin", "from table center", "on the cookie box",
    "in the top drawer of the wooden cabinet", "on the ramekin", "next to the cookie box", "on the stove",
    "next to the plate", "on the wooden cabinet",
)  # fmt: skip
_INSTRUCTIONS = {
    "libero_object": (280, [f"pick up the {thing} and place it in the basket" for thing in _OBJECTS]),
    "libero_spatial": (220, [f"pick up the black bowl {place} and place it on the plate" for place in _PLACES]),
}


def _tasks() -> list[LiberoTask]:
    return [
        LiberoTask(f"{suite}{ending}/{number}", words, steps, None, suite, number, bool(ending))
        for suite, (steps, instructions) in _INSTRUCTIONS.items()
        for ending in ("", SCATTERED)
        for number, words in enumerate(instructions)
    ]


LIBERO_TASKS: dict[str, LiberoTask] = {task.name: task for task in _tasks()}

# Names of suites and of their tasks.
SUITES: dict[str, tuple[str, ...]] = {
    f"{suite}{ending}": tuple(f"{suite}{ending}/{number}" for number in range(10))
    for suite in _INSTRUCTIONS
    for ending in ("", SCATTERED)
}


def instructions_of(suite: str) -> tuple[str, ...]:
    """The instructions of a suite's tasks, in LIBERO's order."""
    return tuple(LIBERO_TASKS[name].instruction for name in SUITES[suite])


def thing_of(instruction: str) -> str:
    """LIBERO's name of the first of its kind that an instruction of libero_object asks for."""
    return instruction.removeprefix("pick up the ").removesuffix(" and place it in the basket").replace(" ", "_") + "_1"
