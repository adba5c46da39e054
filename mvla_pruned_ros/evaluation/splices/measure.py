"""How far the commanded motion jumps where action chunks meet, and what closing the gap by small steps costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...policy.runtime import PolicyRuntime
from ..grouping import grouped
from ..success.lateness import Latency
from ..success.rollout import DelayedControl

if TYPE_CHECKING:
    from ...sim.robot import Robot

MODES = ("switch", "blend")
ROUNDING = 1e-6  # of float32 actions


@dataclass(frozen=True)
class IntraChunkStep:
    """How far a policy itself goes between two consecutive actions, at most.

    Attributes:
        axes: (N,) along each axis of the motion, m/s and, where the hand turns, rad/s. length: Euclidean, of the
            velocity, m/s. turn: Euclidean, of the angular velocity, rad/s. The gripper is no motion of the arm and left
            out.
    """

    axes: np.ndarray
    length: float
    turn: float = 0.0

    @classmethod
    def of(cls, actions: np.ndarray) -> IntraChunkStep:
        """Of a chunk, (K, N + 1); zero for a single action."""
        return cls.largest(np.diff(np.asarray(actions, float)[:, :-1], axis=0))

    @classmethod
    def largest(cls, steps: np.ndarray) -> IntraChunkStep:
        """The largest of (M, N) steps; zero where there are none. Velocities and turns have no common measure."""
        lengths = (float(np.linalg.norm(part, axis=1).max(initial=0.0)) for part in (steps[:, :3], steps[:, 3:]))
        return cls(np.abs(steps).max(0, initial=0.0), *lengths)

    def __or__(self, other: IntraChunkStep) -> IntraChunkStep:
        """The larger of two."""
        longer, more = max(self.length, other.length), max(self.turn, other.turn)
        return IntraChunkStep(np.maximum(self.axes, other.axes), longer, more)


@dataclass(frozen=True)
class SplicedEpisode:
    """One episode, seen at its commands.

    Attributes:
        task, seed, delay, mode: which one; mode is one of ``MODES``.
        success: goal reached within the task's steps. step_s: between two commands.
        sent: (T, A) float32 what was commanded at each step.
        splices: (S,) steps at which the command passed from one chunk to the next.
        own: largest step of the policy between consecutive actions within a chunk, over the chunks that were used.
    """

    task: str
    seed: int
    delay: int
    mode: str
    success: bool
    step_s: float
    sent: np.ndarray
    splices: np.ndarray
    own: IntraChunkStep

    @property
    def jumps(self) -> np.ndarray:
        """(S, A - 1) change of the commanded motion at each splice."""
        return np.abs(self.sent[self.splices, :-1].astype(float) - self.sent[self.splices - 1, :-1])

    @property
    def largest_jump(self) -> IntraChunkStep:
        """Along each axis, and in length."""
        return IntraChunkStep.largest(self.jumps)

    @property
    def within_own_steps(self) -> bool:
        """Whether no splice jumped farther (Euclidean) than the policy itself stepped."""
        jump, own = self.largest_jump, self.own
        return jump.length <= own.length + ROUNDING and jump.turn <= own.turn + ROUNDING

    def row(self) -> dict[str, Any]:
        """As JSON; speeds in m/s and rad/s, rounded to a millionth."""
        jump, own = self.largest_jump, self.own
        return {
            "task": self.task,
            "seed": self.seed,
            "delay": self.delay,
            "mode": self.mode,
            "success": self.success,
            "steps": len(self.sent),
            "splices": len(self.splices),
            "largest_jump": round(jump.length, 6),
            "largest_jump_turn": round(jump.turn, 6),
            "largest_jump_axes": jump.axes.round(6).tolist(),
            "largest_own_step": round(own.length, 6),
            "largest_own_step_turn": round(own.turn, 6),
            "largest_own_step_axes": own.axes.round(6).tolist(),
            "within_own_steps": self.within_own_steps,
        }


def spliced_episode(robot: Robot, runtime: PolicyRuntime, seed: int, *, delay: int, mode: str) -> SplicedEpisode:
    """Drive one episode and keep what was commanded. delay: steps, see ``Latency``. mode: one of ``MODES``."""
    robot.reset(seed)
    control = DelayedControl(runtime, robot, latency=Latency(steps=delay), blend=mode == "blend")
    sent: list[np.ndarray] = []
    splices: list[int] = []
    own: IntraChunkStep | None = None
    while robot.steps < robot.task.max_steps and not robot.success:
        before = control.chunk
        sent.append(control.step())
        chunk = control.chunk
        if chunk is not before and chunk is not None:
            steps = IntraChunkStep.of(chunk.actions)
            own = steps if own is None else own | steps
            if before is not None:
                splices.append(len(sent) - 1)
    width = runtime.policy.action_dim - 1
    return SplicedEpisode(
        robot.task.name, seed, delay, mode, robot.success, runtime.policy.step_s, np.array(sent),
        np.array(splices, int), own or IntraChunkStep(np.zeros(width), 0.0),
    )  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of episodes by task, delay and mode, in their order.

    Returns:
        Of each: episodes, how many succeeded and in how many no splice jumped farther than the policy itself stepped,
        mean steps, largest jump at a splice and largest own step (lengths), and the largest quotient of a jump and the
        own step along one axis.
    """
    groups = grouped(rows, lambda row: (row["task"], row["delay"], row["mode"]))
    return [
        {
            "task": task,
            "delay": delay,
            "mode": mode,
            "episodes": len(group),
            "successes": sum(row["success"] for row in group),
            "within_own_steps": sum(row["within_own_steps"] for row in group),
            "steps": round(float(np.mean([row["steps"] for row in group])), 2),
            "largest_jump": max(row["largest_jump"] for row in group),
            "largest_own_step": max(row["largest_own_step"] for row in group),
            "worst_axis": round(max(_worst_axis(row) for row in group), 3),
        }
        for (task, delay, mode), group in groups.items()
    ]


def _worst_axis(row: dict[str, Any]) -> float:
    own = np.maximum(row["largest_own_step_axes"], 1e-9)
    return float((np.array(row["largest_jump_axes"]) / own).max())
