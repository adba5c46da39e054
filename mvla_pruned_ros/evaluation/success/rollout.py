"""Closed loop without ROS: a policy drives a simulated robot for one episode."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...control.action_spaces import ActionForm
from ...control.splicer import Splicer
from ...policy.base import Policy
from ...policy.mvla.preprocess import NotReadyError
from ...policy.runtime import PolicyRuntime
from ...types import ActionChunk
from .lateness import Latency, whole_steps
from .trajectory import mean_jerk, path_length

if TYPE_CHECKING:  # what only reads episodes needs no simulator
    from ...sim.degradation import Senses
    from ...sim.robot import Robot

NO_LATENCY = Latency()
_VALUES = {4: "velocity x, y, z and gripper", 7: "velocity x, y, z, angular velocity x, y, z and gripper"}


@dataclass(frozen=True)
class Episode:
    """What happened. What has a default is not in logs of older versions.

    Attributes:
        task, seed: which one. success: goal reached within the task's steps. steps: until then, or all.
        partner_success: the partner task's goal was reached (only looked at with exchanged instructions).
        keep_ratio: what the calls spent (``Selection.spent_ratio``), mean over them; None when the policy was never
            ready to answer. keep_steady: over those after the first, which is full for every method; None where there
            was none.
        policy_ms, select_ms: milliseconds of every call, and of its stage ``select``, to the microsecond.
        latency_ms: simulated milliseconds from each call's observation to its chunk, before they are rounded up to
            steps. replan: steps from one observation to the next, see ``DelayedControl``.
        completion_s: simulated seconds until success, None without. path_m, jerk_m_s3: of the end effector; see
            ``path_length`` and ``mean_jerk``.
    """

    task: str
    seed: int
    success: bool
    steps: int
    partner_success: bool
    keep_ratio: float | None
    policy_ms: tuple[float, ...]
    select_ms: tuple[float, ...]
    latency_ms: tuple[float, ...] = ()
    replan: int | None = None
    completion_s: float | None = None
    path_m: float | None = None
    jerk_m_s3: float | None = None
    keep_steady: float | None = None


def check_fit(policy: Policy, robot: Robot) -> None:
    """Whether the robot can be driven by the policy's actions and shows what the policy takes.

    Raises:
        ValueError: it cannot; names what differs, and the remedy.
    """
    mine, task = robot.action_dim, robot.task.name
    remedy = "give --tasks of the robot that the policy was trained for, or train one for this robot (mvla train)"
    if policy.action_dim != mine:
        raise ValueError(
            f"the policy gives {policy.action_dim} values per action; the robot of task {task} takes {mine}: "
            f"{_VALUES[mine]}: {remedy}"
        )
    form = ActionForm.of(policy)
    if (form.space, form.frame) != ("cartesian_velocity", "base"):
        raise ValueError(
            f"the policy's actions are {form}; the robot of task {task} takes cartesian_velocity along the axes of its "
            "base: such a policy can be driven on a real robot, or compared with mvla replay"
        )
    if abs(policy.step_s - robot.step_s) > 1e-9:
        raise ValueError(
            f"an action of the policy is held for {policy.step_s * 1e3:g} ms; a step of the robot of task {task} takes "
            f"{robot.step_s * 1e3:g} ms: {remedy}"
        )
    views = getattr(policy, "views", Policy.views)
    missing = [name for name in views if name not in robot.views]
    if missing:
        raise ValueError(
            f"the policy takes the view {', '.join(missing)}; the robot of task {task} has {', '.join(robot.views)}: "
            f"{remedy}"
        )


class DelayedControl:
    """Drives a robot as the node does: chunks are indexed by the time of their observation, so one that arrives
    late joins where it belongs, unless the robot has stood still since (``ActionChunk.from_rest``).

    Simulated time goes on while the policy computes. One call at a time: no observation is taken while one is under
    way, and then at once, if ``replan`` steps have passed since the last. Where a chunk ends before the next is there,
    the robot holds still, with its gripper as it was.

    Attributes:
        chunk: in force. keep_ratios, policy_ms, select_ms, latency_ms: of every call, see ``Episode``.
        replan: steps from one observation to the next, at least.
    """

    def __init__(
        self, runtime: PolicyRuntime, robot: Robot, *, latency: Latency = NO_LATENCY, played: Sequence[float] = (),
        instruction: str | None = None, replan: int | None = None, blend: bool = False, senses: Senses | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            runtime: policy and pruner, reset here. robot: was reset. latency, played: see ``Latency``.
            instruction: None for the task's own. replan: None for the robot's own. senses: what the robot is seen
                through; None for perfect ones.

        Raises:
            ValueError: the policy does not fit the robot, or would never be in time.
        """
        policy = runtime.policy
        check_fit(policy, robot)
        self.replan = robot.replan_steps if replan is None else replan
        if not 1 <= self.replan <= policy.chunk_size:
            raise ValueError(
                f"replan {self.replan} must lie in [1, {policy.chunk_size}]: a chunk of the policy has "
                f"{policy.chunk_size} actions, and the robot would hold still after them (--replan)"
            )
        delay = whole_steps(latency.fixed_ms(robot.step_s), robot.step_s)
        if delay >= policy.chunk_size:
            raise ValueError(
                f"a delay of {delay} steps must lie in [0, {policy.chunk_size - 1}]: a chunk of {policy.chunk_size} "
                "actions would be over before it arrives"
            )
        self._runtime, self._robot, self._instruction = runtime, robot, instruction
        self._observe = robot.observe if senses is None else senses.observe
        self._counts_for = latency.counting(robot.step_s, played)
        self._pending: tuple[int, ActionChunk] | None = None  # step at which it arrives
        self._next = robot.steps  # step of the next observation
        self.chunk: ActionChunk | None = None
        self._splicer, self._blend = Splicer(), blend
        self._gripper = 0.0
        self._rest_ns: int | None = robot.time_ns  # since when the robot stands still; None while it moves
        self.keep_ratios: list[float] = []
        self.policy_ms: list[float] = []
        self.select_ms: list[float] = []
        self.latency_ms: list[float] = []
        runtime.reset()

    def step(self) -> np.ndarray:
        """Observe and infer when it is time to, then apply one command, (A,), which is returned."""
        robot = self._robot
        self._take_arrived()
        if self._pending is None and robot.steps >= self._next:
            self._next = robot.steps + self.replan
            with contextlib.suppress(NotReadyError):  # the old chunk goes on until it is exhausted
                self._call()
            self._take_arrived()
        command = np.zeros(robot.action_dim, np.float32)
        command[-1] = self._gripper
        if self.chunk is not None:
            index = self.chunk.index_at(robot.time_ns)
            if 0 <= index < len(self.chunk.actions):
                command, self._rest_ns = self._splicer.follow(self.chunk, index, self._blend)[0], None
            else:
                self._splicer.rest()
                self._rest_ns = robot.time_ns if self._rest_ns is None else self._rest_ns
        self._gripper = float(command[-1])
        robot.step(command)
        return command

    def _call(self) -> None:
        observation = self._observe(self._instruction)
        if observation is None:  # the frame was lost
            return
        start = time.perf_counter()
        inference = self._runtime.infer(observation)
        latency_ms = self._counts_for((time.perf_counter() - start) * 1e3)
        self._pending = self._robot.steps + whole_steps(latency_ms, self._robot.step_s), inference.chunk
        self.keep_ratios.append(inference.selection.spent_ratio)
        self.policy_ms.append(inference.policy_ms)
        self.select_ms.append(inference.stage_ms["select"])
        self.latency_ms.append(latency_ms)

    def _take_arrived(self) -> None:
        if self._pending is not None and self._pending[0] <= self._robot.steps:
            self.chunk, self._pending = self._pending[1], None
            if self._rest_ns is not None:
                self.chunk = self.chunk.from_rest(self._robot.time_ns, self._rest_ns)


def run_episode(
    robot: Robot, runtime: PolicyRuntime, seed: int, *, latency: Latency = NO_LATENCY, played: Sequence[float] = (),
    instruction: str | None = None, replan: int | None = None, sensors: str = "",
) -> Episode:  # fmt: skip
    """One episode from a seed; see ``DelayedControl`` for the arguments, and ``parts_named`` for the sensors.

    With an ``instruction`` that is not the task's own, the partner task's goal is watched as well and ends the
    episode too.
    """
    robot.reset(seed)
    senses = None
    if sensors:
        from ...sim.degradation import Senses

        senses = Senses(robot, sensors, seed)
    control = DelayedControl(
        runtime, robot, latency=latency, played=played, instruction=instruction, replan=replan, senses=senses
    )
    foreign = instruction is not None and instruction != robot.task.instruction and robot.task.partner is not None
    partner_success = False
    positions = [robot.state.position]
    while robot.steps < robot.task.max_steps and not robot.success and not partner_success:
        control.step()
        positions.append(robot.state.position)
        partner_success = foreign and robot.partner_success()
    jerk = mean_jerk(np.array(positions), robot.step_s)
    return Episode(
        task=robot.task.name,
        seed=seed,
        success=robot.success,
        steps=robot.steps,
        partner_success=partner_success,
        keep_ratio=float(np.mean(control.keep_ratios)) if control.keep_ratios else None,
        keep_steady=float(np.mean(control.keep_ratios[1:])) if len(control.keep_ratios) > 1 else None,
        policy_ms=tuple(round(ms, 3) for ms in control.policy_ms),
        select_ms=tuple(round(ms, 3) for ms in control.select_ms),
        latency_ms=tuple(control.latency_ms),
        replan=control.replan,
        completion_s=round(robot.steps * robot.step_s, 4) if robot.success else None,
        path_m=round(path_length(np.array(positions)), 4),
        jerk_m_s3=None if jerk is None else round(jerk, 3),
    )
