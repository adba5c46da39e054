"""What every simulated robot is to those who use one: sensors out, commands of the end effector in."""

from __future__ import annotations

import functools
import gc
import importlib.util
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from ..geometry.clouds import depth_to_points
from ..types import ArmState, Observation
from .camera import Shot
from .tasks import Task, is_libero


class Robot(ABC):
    """A robot in the scene of one task.

    Commands are actions of the space ``cartesian_velocity`` in the base frame, held for one step: velocity x, y, z in
    m/s, where the hand turns the angular velocity x, y, z in rad/s, and the gripper, -1 (open) to 1 (close). Keep
    robots and ``reset`` them, see ``robot_of``: making one takes seconds.

    Attributes:
        task: what is to be done. steps: since the reset. success: whether the goal was reached at any of them.
        step_s: seconds of a step. action_dim: values of a command. max_speed: m/s, max_turn: rad/s, along each axis.
        views: names of what the cameras see, the first one's first.
        replan_steps: steps from one observation of a policy to the next. record_every: steps between two frames of a
            demonstration.
    """

    step_s: ClassVar[float]
    action_dim: ClassVar[int]
    max_speed: ClassVar[float]
    max_turn: ClassVar[float]
    views: ClassVar[tuple[str, ...]]
    replan_steps: ClassVar[int]
    record_every: ClassVar[int]

    task: Task
    steps: int
    success: bool

    @abstractmethod
    def __init__(self, task: str, image_size: int) -> None:
        """See ``robot_of``."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the pictures take; nothing may be asked of the robot afterwards."""

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Start an episode; the same seed gives the same scene whatever came before."""

    @abstractmethod
    def step(self, command: np.ndarray) -> None:
        """Apply an (action_dim,) command for one step; what is faster than the robot can move is cut off."""

    @abstractmethod
    def expert_command(self) -> np.ndarray:
        """(action_dim,) float32: what the scripted expert, which sees the true state, would command now."""

    @abstractmethod
    def render(self) -> tuple[Shot, ...]:
        """What each camera sees, in the order of ``views``."""

    @property
    @abstractmethod
    def state(self) -> ArmState:
        """What the robot knows of itself."""

    def partner_success(self) -> bool:
        """Whether the present state fulfils the partner task, which shares this scene.

        Raises:
            ValueError: this task has no partner.
        """
        raise ValueError(f"task {self.task.name!r} has no partner task in the same scene")

    @property
    def errands(self) -> dict[str, str]:
        """Instructions that make sense in the scene as it is, and what each asks the arm to take."""
        return {}

    def send_for(self, thing: str) -> None:
        """From now on, until the next reset, the expert takes this one of ``errands``; success stays the task's own.

        Raises:
            ValueError: the scene has no errands.
        """
        raise ValueError(f"in the scene of {self.task.name!r} the expert can be sent for nothing else")

    @property
    def time_ns(self) -> int:
        """Simulated time since the reset."""
        return round(self.steps * self.step_s * 1e9)

    def observe(self, instruction: str | None = None) -> Observation:
        """What the sensors see now. instruction: defaults to the task's own."""
        return self.observation_of(self.render(), instruction)

    def observation_of(self, shots: tuple[Shot, ...], instruction: str | None = None) -> Observation:
        """An observation of what the cameras see and of the present state."""
        clouds = [depth_to_points(shot.depth, shot.view.camera) for shot in shots]
        return Observation(
            stamp_ns=self.time_ns,
            views=tuple(shot.view for shot in shots),
            points=clouds[0] if len(clouds) == 1 else np.concatenate(clouds),
            state=self.state,
            instruction=self.task.instruction if instruction is None else instruction,
        )


def robot_class(task: str) -> type[Robot]:
    """Of the robot of a task; imports MuJoCo, but no simulator.

    Raises:
        ValueError: there is no such task.
    """
    if is_libero(task):
        from .libero.robot import LiberoRobot

        return LiberoRobot
    from .metaworld.robot import MetaWorldRobot

    return MetaWorldRobot


def require_simulator(task: str) -> None:
    """Raises ValueError where the simulator of a task is not installed; names the extra that brings it."""
    module, extra = ("libero", "libero") if is_libero(task) else ("metaworld", "sim")
    if importlib.util.find_spec(module) is None:
        raise ValueError(
            f"task {task} needs the module {module}, which is not installed: in the folder of this package, "
            f"pip install '.[{extra}]'"
        )


def robot_of(task: str, image_size: int = 192) -> Robot:
    """The robot of this process for a task; its pictures have ``image_size`` pixels along an edge.

    Robots of Meta-World are kept. Of LIBERO, whose scenes take more than a gigabyte each, the last one is, and a robot
    asked for before is closed.

    Raises:
        ValueError: there is no such task, or its simulator is not installed.
    """
    require_simulator(task)
    # Each simulator is imported when it is asked for: LIBERO's is an extra, and both are heavy.
    kept = _libero_robot if is_libero(task) else _metaworld_robot
    return kept(task, image_size)


@functools.cache
def _metaworld_robot(task: str, image_size: int) -> Robot:
    return robot_class(task)(task, image_size)


_last_libero: list[tuple[tuple[str, int], Robot]] = []


def _libero_robot(task: str, image_size: int) -> Robot:
    if _last_libero and _last_libero[0][0] != (task, image_size):
        _last_libero.pop()[1].close()
        gc.collect()  # LIBERO's objects know one another
    if not _last_libero:
        _last_libero.append(((task, image_size), robot_class(task)(task, image_size)))
    return _last_libero[0][1]
