"""The scripted experts at work on the simulated robot, as demonstrations and as a bag."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..bags.setup import TOPICS, types_of
from ..bags.writer import BagWriter
from ..policy.mvla.config import MVLAConfig
from ..policy.mvla.preprocess import NotReadyError, prepare
from ..sim.degradation import Senses
from ..sim.robot import Robot, require_simulator, robot_of
from ..sim.sensors import sensor_messages
from ..sim.wiring import BASE_FRAME, common_wiring
from .demonstrations import Demonstrations

START_NS = 1_000_000_000  # time 0 would read as "no time yet" everywhere in ROS
# Bursts of noise: share of the steps at which one begins, in what unit of time it lasts 4 to 13, standard deviations as
# shares of the highest speeds.
BURST_SHARE, BURST_UNIT_S, PUSH, TURN = 0.06, 0.0125, 0.6, 0.05
PAUSE_NS = 1_000_000_000  # between two episodes of a bag


class NotSolvedError(RuntimeError):
    """The expert did not reach the goal in the task's time."""


class ActionNoise:
    """Bursts of a constant push in a random direction, so that the expert shows how to recover."""

    def __init__(self, robot: Robot, seed: int) -> None:
        """robot: whose commands are disturbed. seed: of the episode."""
        self._rng, self._left, self._robot = np.random.default_rng([seed, 1]), 0, robot
        self._push = np.zeros(robot.action_dim)

    def __call__(self, command: np.ndarray) -> np.ndarray:
        if self._left == 0 and self._rng.random() < BURST_SHARE:
            self._left = max(1, round(int(self._rng.integers(4, 14)) * BURST_UNIT_S / self._robot.step_s))
            self._push[:3] = self._rng.normal(0, PUSH, 3) * self._robot.max_speed
            if self._robot.max_turn:
                self._push[3:6] = self._rng.normal(0, TURN, 3) * self._robot.max_turn
        if self._left == 0:
            return command
        self._left -= 1
        return command + self._push


def expert_steps(robot: Robot, seed: int, after: int, *, noisy: bool) -> Iterator[tuple[bool, np.ndarray]]:
    """One episode under the expert's command.

    Args:
        robot: its task is done. seed: of the scene and the noise. after: steps to go on for once it is solved.
        noisy: push the arm about in bursts.

    Returns:
        Before each step: whether a frame is taken now, and the command of the expert, without the noise.

    Raises:
        NotSolvedError: the time was over before.
    """
    robot.reset(seed)
    solved_at = None
    noise = ActionNoise(robot, seed)
    while solved_at is None or robot.steps < solved_at + after:
        if robot.steps >= robot.task.max_steps:
            raise NotSolvedError(f"the expert did not solve {robot.task.name}, seed {seed}")
        command = robot.expert_command()
        yield robot.steps % robot.record_every == 0 and (solved_at is None or robot.steps <= solved_at + 4), command
        robot.step(noise(command) if noisy else command)
        if robot.success and solved_at is None:
            solved_at = robot.steps


def record_episode(
    robot: Robot, seed: int, config: MVLAConfig, *, noisy: bool, sensors: str = ""
) -> Demonstrations | None:
    """The frames of one episode with the expert's actions, or None when it did not succeed or the policy could not have
    acted on any of them; see ``expert_steps``.

    sensors: through which the robot is seen, see ``parts_named``. The expert always knows the true state.
    """
    labels, frames, senses = [], [], Senses(robot, sensors, seed)
    try:
        for seen, command in expert_steps(robot, seed, config.chunk_size + 4, noisy=noisy):
            if seen and (observation := senses.observe()) is not None:
                with suppress(NotReadyError):  # too few points are left for the policy: no sample
                    frames.append((robot.steps, prepare(observation, config)))
            labels.append(command)
    except NotSolvedError:
        return None
    if not frames:
        return None
    actions = np.stack(labels)
    return Demonstrations.of(
        [frame for _, frame in frames],
        [actions[i : i + config.chunk_size] for i, _ in frames],
        [robot.task.instruction] * len(frames),
        range(len(frames)),
    )


def record_beginnings(robot: Robot, seed: int, config: MVLAConfig, frames: int) -> Demonstrations:
    """The first frames of one scene, once for each thing that can be asked for in it.

    The pictures are the same, the instructions and the actions are not: what tells them apart is which thing is meant.

    Args:
        robot: its scene has errands. seed: of the scene. frames: of each errand.

    Raises:
        ValueError: the scene has no errands.
    """
    robot.reset(seed)
    if not robot.errands:
        raise ValueError(f"in the scene of {robot.task.name!r} nothing else can be asked for")
    first = prepare(robot.observe(), config)
    inputs, actions, instructions, goals = [], [], [], []
    for instruction, thing in robot.errands.items():
        robot.reset(seed)
        robot.send_for(thing)
        labels: list[np.ndarray] = []
        needed = (frames - 1) * robot.record_every + config.chunk_size
        while robot.steps < needed or (labels[-1][-1] < 0 and robot.steps < robot.task.max_steps):
            step = robot.steps
            if step % robot.record_every == 0 and step < frames * robot.record_every:
                inputs.append(prepare(robot.observe(), config) if step else first)
            labels.append(robot.expert_command())
            robot.step(labels[-1])
        goals += [robot.state.position] * frames  # closing there
        actions += [np.stack(labels[i * robot.record_every :][: config.chunk_size]) for i in range(frames)]
        instructions += [instruction] * frames
    return Demonstrations.of(inputs, actions, instructions, [*range(frames)] * len(robot.errands), np.stack(goals))


def record_bag(
    folder: Path,
    scenes: Iterable[tuple[str, int]],
    topics: Mapping[str, str],
    *,
    noisy: bool,
    chunk_size: int = MVLAConfig.chunk_size,
    on_episode: Callable[[str, int, bool], None] = lambda task, seed, solved: None,
) -> dict[str, int]:
    """Episodes under the expert's command as a bag, without ROS and as fast as the simulator is.

    Stamps are simulated time; the twist and the gripper command are the expert's. Episodes that are not solved are left
    out.

    Args:
        folder: must not exist. scenes: tasks of one wiring, and seeds. topics: role -> name, where it is not that of
            `mvla record`. noisy: push the arm about in episodes of odd seed, as for the shipped policy.
        chunk_size: steps recorded after the last frame.

    Returns:
        Messages written, by topic.

    Raises:
        ValueError: ``folder`` exists, tasks of several wirings or without their simulator, or no episode was solved.
    """
    scenes = list(scenes)
    sensors = common_wiring([task for task, _ in scenes]).topics()
    require_simulator(scenes[0][0])
    names = {**{role: f"/simulator/{role}" for role in sensors}, **TOPICS, **topics}
    del names["points"]
    start, solved = START_NS, 0
    with BagWriter(folder, {topic: types_of(role)[0] for role, topic in names.items()}) as writer:
        make = writer.messages
        for task, seed in scenes:
            robot, messages = robot_of(task), []
            try:
                for seen, command in expert_steps(robot, seed, chunk_size + 4, noisy=noisy and seed % 2 == 1):
                    stamp = start + robot.time_ns
                    sent = sensor_messages(robot, make, stamp) if seen else {}
                    sent["twist"] = make.twist(command[:-1], stamp, BASE_FRAME)
                    sent["gripper_command"] = make.number(command[-1])
                    messages += [(stamp, role, message) for role, message in sent.items()]
            except NotSolvedError:
                on_episode(task, seed, False)
                continue
            writer.write(names["instruction"], start, make.text(robot.task.instruction))
            for stamp, role, message in messages:
                writer.write(names[role], stamp, message)
            start += robot.time_ns + PAUSE_NS
            solved += 1
            on_episode(task, seed, True)
    if not solved:
        raise ValueError(f"the expert solved no episode: {folder} holds nothing")
    return writer.counts
