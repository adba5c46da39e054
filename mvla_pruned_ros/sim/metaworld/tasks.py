"""The tasks of Meta-World: environment, instruction, what the camera may see."""

from __future__ import annotations

from dataclasses import dataclass

from ..tasks import Task


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
class MetaWorldTask(Task):
    """One task; its name is Meta-World's without the version.

    Attributes:
        goal_site: the goal marker that stays visible, where the goal can be seen in no other way. All other
            sites are hidden, because MuJoCo draws them in colour and in depth.
        object_range: half width in metres of the object's x positions, where it must be narrowed to make the
            scene that of its partner.
        environment: Meta-World's name where it is not the task's own.
        ball: a floating ball that replaces the environment's goal.
    """

    goal_site: str | None = None
    object_range: float | None = None
    environment: str = ""
    ball: BallOnRay | None = None

    def __post_init__(self) -> None:
        if not self.environment:
            object.__setattr__(self, "environment", self.name)


TASKS: dict[str, MetaWorldTask] = {
    task.name: task
    for task in (
        MetaWorldTask("button-press-topdown", "press the button from the top"),
        MetaWorldTask("push", "push the puck to the goal", goal_site="goal"),
        MetaWorldTask("faucet-open", "open the faucet", partner="faucet-close", object_range=0.05),
        MetaWorldTask("faucet-close", "close the faucet", partner="faucet-open", object_range=0.05),
        MetaWorldTask("pick-place", "lift the puck to the goal", goal_site="goal"),
        MetaWorldTask("coffee-push", "push the mug under the coffee machine"),
        MetaWorldTask("peg-unplug-side", "pull the plug out of the wall"),
        MetaWorldTask("drawer-open", "open the drawer"),
        MetaWorldTask("handle-press", "press the handle down"),
        MetaWorldTask("plate-slide", "slide the plate into the goal"),
        MetaWorldTask("touch-ball", "touch the ball", goal_site="goal", environment="reach", ball=BallOnRay()),
    )
}

# What pruning is tuned on. The other tasks are held out: they are evaluated, never fitted to.
CALIBRATION_TASKS = ("button-press-topdown", "push", "faucet-open", "coffee-push", "drawer-open")

# A look at what the policy does, in a few minutes.
DEMO_TASKS = ("button-press-topdown", "push", "faucet-open", "faucet-close")
