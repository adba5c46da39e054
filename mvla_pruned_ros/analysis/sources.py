"""Where recorded calls come from: a simulated episode that the policy drives, or a bag it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..bags.observations import BagFrame, BagFrames
from ..policy.base import Policy
from ..policy.mvla.preprocess import NotReadyError
from .recording import Call, RecordingRuntime

if TYPE_CHECKING:  # a bag needs no simulator
    from ..sim.robot import Robot


def simulated_calls(robot: Robot, policy: Policy, seed: int) -> Iterator[Call]:
    """One episode of a simulated robot, driven by the unpruned policy as ``mvla evaluate`` does.

    Args:
        robot: is reset here. seed: of the scene.
    """
    from ..evaluation.success.rollout import DelayedControl  # needs the simulator, which a bag does not

    runtime = RecordingRuntime(policy)
    robot.reset(seed)
    control = DelayedControl(runtime, robot)
    while robot.steps < robot.task.max_steps and not robot.success:
        control.step()
        yield from runtime.take()


def bag_calls(frames: BagFrames, policy: Policy) -> Iterator[Call]:
    """What the unpruned policy answers to the frames of a bag; nothing moves.

    Frames that cannot be acted on (too few points) are left out, and ``frames`` counts them.

    Raises:
        ValueError: no frame can be used, or the policy does not know the instruction.
    """
    runtime = RecordingRuntime(policy)
    for frame in frames:
        if not isinstance(frame, BagFrame):
            continue
        if frame.begins:
            runtime.reset()
        try:
            runtime.infer(frame.observation)
        except NotReadyError as error:
            frames.refuse("not ready: too few points", str(error))
            continue
        yield from runtime.take()
