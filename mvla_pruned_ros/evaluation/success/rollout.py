"""Closed loop without ROS: a policy drives the simulated robot for one episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...control.splicer import Splicer
from ...policy.base import Policy
from ...policy.mvla.preprocess import NotReadyError
from ...policy.runtime import PolicyRuntime
from ...types import ActionChunk

if TYPE_CHECKING:  # what only reads episodes needs no simulator
    from ...sim.robot import Robot

REPLAN_STEPS = 4  # a camera of 20 Hz beside control steps of 12.5 ms


@dataclass(frozen=True)
class Episode:
    """What happened.

    Attributes:
        task, seed: which one. success: goal reached within the task's steps. steps: until then, or all.
        partner_success: the partner task's goal was reached (only looked at with exchanged instructions).
        keep_ratio: mean over the policy calls; None when the policy was never ready to answer.
        policy_ms, select_ms: milliseconds of every call, and of its stage ``select``, to the microsecond.
    """

    task: str
    seed: int
    success: bool
    steps: int
    partner_success: bool
    keep_ratio: float | None
    policy_ms: tuple[float, ...]
    select_ms: tuple[float, ...]


class DelayedControl:
    """Drives a robot as the node does: chunks are indexed by the time of their observation, so one that arrives
    late joins where it belongs.

    Args:
        runtime: policy and pruner, reset here. delay: steps between an observation and its chunk's arrival.
        instruction: None for the task's own. replan_steps: steps between observations.
    """

    def __init__(
        self, runtime: PolicyRuntime, *, delay: int = 0, instruction: str | None = None,
        replan_steps: int = REPLAN_STEPS, blend: bool = False,
    ) -> None:  # fmt: skip
        if runtime.policy.action_dim != 4:
            raise ValueError(
                f"the policy gives {runtime.policy.action_dim} values per action; the simulated robot takes 4: "
                "velocity x, y, z and gripper"
            )
        space = getattr(runtime.policy, "action_space", Policy.action_space)
        if space != "cartesian_velocity":
            raise ValueError(f"the policy's actions are {space}; the simulated robot takes cartesian_velocity")
        room = runtime.policy.chunk_size - replan_steps
        if not 0 <= delay <= room:
            raise ValueError(
                f"delay {delay} must lie in [0, {room}]: a chunk of {runtime.policy.chunk_size} actions has to last "
                f"until the next one, {replan_steps} steps later, has arrived"
            )
        self._runtime, self._delay, self._replan = runtime, delay, replan_steps
        self._instruction = instruction
        self._pending: list[tuple[int, ActionChunk]] = []
        self.chunk: ActionChunk | None = None
        self._splicer, self._blend = Splicer(), blend
        self._gripper = 0.0
        self.keep_ratios: list[float] = []
        self.policy_ms: list[float] = []
        self.select_ms: list[float] = []
        runtime.reset()

    def step(self, robot: Robot) -> np.ndarray:
        """Observe and infer when it is time to, then apply one command, (4,), which is returned."""
        if robot.steps % self._replan == 0:
            try:
                inference = self._runtime.infer(robot.observe(self._instruction))
                self._pending.append((robot.steps + self._delay, inference.chunk))
                self.keep_ratios.append(inference.selection.keep_ratio)
                self.policy_ms.append(inference.policy_ms)
                self.select_ms.append(inference.stage_ms["select"])
            except NotReadyError:
                pass  # the old chunk goes on until it is exhausted
        while self._pending and self._pending[0][0] <= robot.steps:
            self.chunk = self._pending.pop(0)[1]
        command = np.array([0, 0, 0, self._gripper], np.float32)
        if self.chunk is not None:
            index = self.chunk.index_at(robot.time_ns)
            if 0 <= index < len(self.chunk.actions):
                command = self._splicer.follow(self.chunk, index, self._blend)[0]
            else:
                self._splicer.rest()
        self._gripper = float(command[3])
        robot.step(command)
        return command


def run_episode(
    robot: Robot, runtime: PolicyRuntime, seed: int, *, delay: int = 0, instruction: str | None = None
) -> Episode:
    """One episode from a seed; see ``DelayedControl`` for the arguments.

    With an ``instruction`` that is not the task's own, the partner task's goal is watched as well and ends the
    episode too.
    """
    robot.reset(seed)
    control = DelayedControl(runtime, delay=delay, instruction=instruction)
    foreign = instruction is not None and instruction != robot.task.instruction and robot.task.partner is not None
    partner_success = False
    while robot.steps < robot.task.max_steps and not robot.success and not partner_success:
        control.step(robot)
        partner_success = foreign and robot.partner_success()
    return Episode(
        task=robot.task.name,
        seed=seed,
        success=robot.success,
        steps=robot.steps,
        partner_success=partner_success,
        keep_ratio=float(np.mean(control.keep_ratios)) if control.keep_ratios else None,
        policy_ms=tuple(round(ms, 3) for ms in control.policy_ms),
        select_ms=tuple(round(ms, 3) for ms in control.select_ms),
    )
