"""The tasks of the simulated robot: Meta-World environment, expert, instruction, what the camera may see."""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True)
class BallOnRay:
    """A ball whose size grows with its distance from the camera, so that the picture cannot tell how far it is.

    Where it appears on the picture and how far it is are drawn independently; nothing holds it up and nothing casts
    a shadow. Only the point cloud tells the distance.

    Attributes:
        nearest_m, farthest_m: distance of the centre from the camera.
        spread_m: half width of the square of rays, measured across the view at the mean distance.
        radius_m: at the mean distance; proportional to distance.
        touch_m: the task is done when the end effector is nearer than this to the ball's centre.
        start: end-effector position at the start, base frame, metres: clear of the ball.
    """

    nearest_m: float = 0.80
    farthest_m: float = 1.06
    spread_m: float = 0.08
    radius_m: float = 0.022
    touch_m: float = 0.03
    start: tuple[float, float, float] = (0.0, 0.5, 0.32)


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
        environment: Meta-World's name where it is not the task's own.
        ball: a floating ball that replaces the environment's goal.
    """

    name: str
    instruction: str
    goal_site: str | None = None
    partner: str | None = None
    object_range: float | None = None
    max_steps: int = 250
    environment: str = ""
    ball: BallOnRay | None = None

    def __post_init__(self) -> None:
        if not self.environment:
            object.__setattr__(self, "environment", self.name)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("button-press-topdown", "press the button from the top"),
        Task("push", "push the puck to the goal", goal_site="goal"),
        Task("faucet-open", "open the faucet", partner="faucet-close", object_range=0.05),
        Task("faucet-close", "close the faucet", partner="faucet-open", object_range=0.05),
        Task("pick-place", "lift the puck to the goal", goal_site="goal"),
        Task("coffee-push", "push the mug under the coffee machine"),
        Task("peg-unplug-side", "pull the plug out of the wall"),
        Task("drawer-open", "open the drawer"),
        Task("handle-press", "press the handle down"),
        Task("plate-slide", "slide the plate into the goal"),
        Task("touch-ball", "touch the ball", goal_site="goal", environment="reach", ball=BallOnRay()),
    )
}

# What pruning is tuned on. The other tasks are held out: they are evaluated, never fitted to.
CALIBRATION_TASKS = ("button-press-topdown", "push", "faucet-open", "coffee-push", "drawer-open")

# A look at what the policy does, in a few minutes.
DEMO_TASKS = ("button-press-topdown", "push", "faucet-open", "faucet-close")


def task_named(name: str) -> Task:
    """The task called ``name``.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    try:
        return TASKS[name]
    except KeyError:
        near = difflib.get_close_matches(name, TASKS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown task {name!r}: {hint}choose from {', '.join(TASKS)}") from None
