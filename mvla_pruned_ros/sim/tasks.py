"""The tasks of the simulated robot: Meta-World environment, expert, instruction, what the camera may see."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: Meta-World's name without the version.
        instruction: the words the policy is given.
        goal_site: the goal marker that stays visible, where the goal can be seen in no other way. All other
            sites are hidden, because MuJoCo draws them in colour and in depth.
        partner: task that shares this scene, so that only the instruction tells them apart.
        object_range: half width in metres of the object's x positions, where it must be narrowed to make the
            scene that of its partner.
        max_steps: an episode that has not succeeded by then has failed.
    """

    name: str
    instruction: str
    goal_site: str | None = None
    partner: str | None = None
    object_range: float | None = None
    max_steps: int = 250


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("button-press-topdown", "press the button from the top"),
        Task("push", "push the puck to the goal", goal_site="goal"),
        Task("faucet-open", "open the faucet", partner="faucet-close", object_range=0.05),
        Task("faucet-close", "close the faucet", partner="faucet-open", object_range=0.05),
    )
}


def task_named(name: str) -> Task:
    """The task called ``name``.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    try:
        return TASKS[name]
    except KeyError:
        raise ValueError(f"unknown task {name!r}: choose from {', '.join(TASKS)}") from None
