"""Simulator and policy node as two processes, and the third node that leads them through episodes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger

from ...node.parameters import SPECS
from ...policy.source import PolicySource
from ...pruning.base import check_keep_ratio
from ...pruning.methods import check_method
from ...sim.metaworld.tasks import DEMO_TASKS
from ...sim.robot import Robot, require_simulator, robot_class
from ...sim.tasks import Task, expand_tasks, is_libero, task_named
from ...sim.wiring import Wiring, common_wiring
from ...training.recipes import RECIPES
from ..child_process import ChildFailedError, ChildNode
from ..graph import Graph
from ..qos import LATCHED, RELIABLE

# On two cores busy with other work, at 1.0 one to three frames of a hundred were lost and observations were up to
# 170 ms (simulated) old when their chunk of 200 ms was ready; at 0.5 none was lost and the age stayed below 135 ms.
DEFAULT_REAL_TIME_FACTOR = 0.5
FRAMES_OLD = 3  # periods of the camera after which the arm stops, at least the node's default

COMMAND_REMAPS = {f"~/command/{name}": f"/policy/command/{name}" for name in ("twist", "gripper")}


@dataclass(frozen=True)
class DemoOptions:
    """What a demo runs. Times in steps of the robot.

    Raises:
        ValueError: an unknown task or method, one whose simulator is not installed, or a number out of its range.
    """

    out: Path
    tasks: tuple[Task, ...] = tuple(task_named(name) for name in DEMO_TASKS)
    keep_ratio: float = 0.5
    method: str = "tri_stage"
    policy: Path | str | None = None  # see ``PolicySource``; None: the policy that is shipped
    device: str = "auto"
    seed: int = 0
    real_time_factor: float = DEFAULT_REAL_TIME_FACTOR
    max_steps: int = 0  # 0: each task's own
    domain_id: int | None = None  # None: one of this run's own
    view: str = ""  # the policy node's parameter

    def __post_init__(self) -> None:
        first, *others = (task.name for task in self.tasks)
        require_simulator(first)
        for name in others:
            if robot_class(name) is not robot_class(first):
                raise ValueError(f"{first} and {name} are for two robots, and a policy drives one: give one kind")
        check_keep_ratio(self.keep_ratio)
        check_method(self.method)
        if not 0 <= self.real_time_factor <= 100:
            raise ValueError(f"real-time factor {self.real_time_factor} is outside [0, 100]")
        if self.seed < 0 or self.max_steps < 0:
            raise ValueError(f"seed {self.seed} and max steps {self.max_steps} must not be negative")
        if self.domain_id is not None and not 0 <= self.domain_id <= 101:
            raise ValueError(f"domain id {self.domain_id} is outside [0, 101]")
        if self.policy is not None:
            PolicySource.of(str(self.policy))

    @property
    def policy_name(self) -> str:
        """By which tables call the policy."""
        name = str(self.policy or "small")
        return name if ":" in name else Path(name).name

    @classmethod
    def of(cls, args: argparse.Namespace) -> DemoOptions:
        """From the arguments of ``mvla demo`` and ``mvla record``."""
        factor, tasks = args.real_time_factor, expand_tasks(args.tasks or list(tasks_of(args.policy)))
        return cls(
            out=args.out,
            tasks=tuple(map(task_named, tasks)),
            keep_ratio=args.keep,
            method=args.method,
            policy=args.policy or ("panda" if is_libero(tasks[0]) else "small"),
            device=args.device,
            seed=args.seed,
            real_time_factor=DEFAULT_REAL_TIME_FACTOR if factor is None else factor,
            max_steps=args.max_steps,
            domain_id=args.domain_id,
            view=getattr(args, "view", None) or "",  # of the demo alone
        )


def tasks_of(policy: str | None) -> tuple[str, ...]:
    """Names of the tasks that a policy is shown on: those of the demo, unless it learned only others."""
    recipe = RECIPES.get(policy or "")
    learned = dict.fromkeys(shard.task for shard in recipe.shards) if recipe else dict.fromkeys(DEMO_TASKS)
    return DEMO_TASKS if learned.keys() >= set(DEMO_TASKS) else tuple(learned)


@dataclass(frozen=True)
class Way:
    """How tokens are pruned in an episode."""

    method: str
    keep_ratio: float

    @property
    def name(self) -> str:
        return "unpruned" if self.method == "none" else f"{self.method} {self.keep_ratio:g}"


UNPRUNED = Way("none", 1.0)


@dataclass
class EpisodeLog:
    """What was heard while an episode ran. running_s: wall time in which it did."""

    task: str
    seed: int
    way: Way
    success: bool = False
    steps: int = 0
    running_s: float = 0.0
    inferences: list[dict[str, Any]] = field(default_factory=list)  # messages of the policy node's ~/pruning


def sensor_remaps(wiring: Wiring) -> dict[str, str]:
    """The policy node's names of the simulator's sensors -> their topics."""
    return {f"~/{name}": f"/simulator/{name}" for name in wiring.topics()}


def start_policy(
    options: DemoOptions, graph: Graph, wiring: Wiring | None = None, log: str = "policy.log"
) -> ChildNode:
    """Start the policy node, set up for a robot of the simulator.

    Args:
        wiring: of the robot; None: that of the tasks. log: name of its file.
    """
    wiring = wiring or common_wiring([task.name for task in options.tasks])
    robot = robot_class(wiring.task)
    parameters: dict[str, Any] = {
        **wiring.parameters(),
        "use_sim_time": True,
        "method": options.method,
        "keep_ratio": float(options.keep_ratio),
        "device": options.device,
        "command_rate_hz": 1 / robot.step_s,
        "discovery_wait_ms": 0.0,  # nobody else is there: the first episode would go on without commands meanwhile
        "max_speed_m_s": robot.max_speed,
        "max_observation_age_ms": patience_ms(robot, options.real_time_factor),
    }
    if robot.max_turn:
        parameters["max_angular_speed_rad_s"] = robot.max_turn
    if options.policy is not None:
        parameters["policy"] = str(options.policy)
    if options.view:
        parameters["view"] = options.view
    return graph.start("policy node", "node.executable", options.out / log, parameters, sensor_remaps(wiring))


def patience_ms(robot: type[Robot], real_time_factor: float) -> float:
    """For how long the arm goes on without an image; the node's watchdog counts wall time."""
    frame_ms = 1e3 / camera_rate_hz(robot) / min(1.0, real_time_factor or 1.0)
    allowed = SPECS["max_observation_age_ms"]
    return float(np.clip(FRAMES_OLD * frame_ms, allowed.default, allowed.high))


def camera_rate_hz(robot: type[Robot]) -> float:
    """Of images: the policy is to look as often as where it is evaluated."""
    return 1 / (robot.replan_steps * robot.step_s)


class DemoSession:
    """Leads simulator and policy node through episodes, as a third node.

    Attributes:
        node: the leading node, for more subscriptions.
        status: the simulator's last ``~/status``.
        pruning: the policy node's last ``~/pruning``.
        frames_received: images that reached the policy node's subscription, whether or not it inferred from them.
    """

    def __init__(self, options: DemoOptions, graph: Graph, suffix: str = "") -> None:
        """Starts both nodes in ``graph``, without waiting for them.

        Args:
            options: with tasks of one wiring. suffix: of the names of the logs.
        """
        self.options, self.node, self._graph = options, graph.node, graph
        self._way = Way(options.method, options.keep_ratio)
        self.status: dict[str, Any] = {}
        self.pruning: dict[str, Any] = {}
        self.frames_received = 0
        self._episode: EpisodeLog | None = None
        options.out.mkdir(parents=True, exist_ok=True)
        self._start_simulator(f"simulator{suffix}.log")
        start_policy(options, graph, log=f"policy{suffix}.log")
        node = graph.node
        node.create_subscription(String, "/simulator/status", self._take_status, LATCHED)
        node.create_subscription(String, "/policy/pruning", self._take_pruning, 50)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, 10)
        self._instruction = node.create_publisher(String, "/policy/instruction", RELIABLE)
        self._parameters = node.create_client(SetParameters, "/simulator/set_parameters")
        self._policy_parameters = node.create_client(SetParameters, "/policy/set_parameters")
        self._reset_simulator = node.create_client(Trigger, "/simulator/reset")
        self._reset_policy = node.create_client(Trigger, "/policy/reset")

    def _start_simulator(self, log: str) -> None:
        options = self.options
        parameters = {
            "task": options.tasks[0].name,
            "camera_rate_hz": camera_rate_hz(robot_class(options.tasks[0].name)),
            "seed": options.seed,
            "real_time_factor": float(options.real_time_factor),
            "max_steps": options.max_steps,
            "auto_reset": False,
        }
        self._graph.start("simulator", "sim.node", options.out / log, parameters, COMMAND_REMAPS)

    def _take_status(self, message: String) -> None:
        self.status = json.loads(message.data)

    def _take_pruning(self, message: String) -> None:
        self.pruning = json.loads(message.data)
        self.frames_received = max(self.frames_received, int(self.pruning["frames_received"]))
        if self._episode is not None:
            self._episode.inferences.append(self.pruning)

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            for value in status.values:
                if value.key == "frames_received":
                    self.frames_received = max(self.frames_received, int(value.value))

    def settle(self, timeout_s: float = 3.0) -> None:
        """After the last episode: wait for counters that are still on their way."""
        self._graph.spin_until(lambda: self.frames_received >= self.status["frames_sent"], timeout_s)

    def spin_until(self, done: Callable[[], bool], timeout_s: float, awaited: str) -> None:
        """Serve callbacks until ``done()``.

        Raises:
            ChildFailedError: one of the nodes ended, or it took longer than ``timeout_s``; names what was awaited.
        """
        if not self._graph.spin_until(done, timeout_s):
            logs = "\n".join(f"--- {c.name}\n{c.tail(8)}" for c in self._graph.children)
            raise ChildFailedError(f"waited {timeout_s:.0f} s for {awaited}; the nodes said last:\n{logs}")

    def wait_until_ready(self, timeout_s: float = 120.0) -> None:
        """Until the policy is loaded and both nodes hear each other: no frame is sent before that."""

        clients = (self._parameters, self._policy_parameters, self._reset_simulator, self._reset_policy)

        def ready() -> bool:
            return (
                self.status.get("image_subscribers", 0) > 0
                and self.status.get("command_publishers", 0) > 0
                and self._instruction.get_subscription_count() > 0
                and self.node.count_publishers("/policy/pruning") > 0
                and all(client.service_is_ready() for client in clients)
            )

        self.spin_until(ready, timeout_s, "simulator and policy node to find each other")

    def _call(self, client: Any, request: Any, awaited: str) -> Any:
        future = client.call_async(request)
        self.spin_until(future.done, 90.0, awaited)
        return future.result()

    def _set(self, client: Any, **values: Any) -> None:
        """Raises ValueError: the node refuses a value."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        request = SetParameters.Request(parameters=parameters)
        for result in self._call(client, request, f"{client.srv_name}").results:
            if not result.successful:
                raise ValueError(result.reason)

    def run_episode(
        self, task: Task, seed: int, way: Way, on_progress: Callable[[EpisodeLog], None] | None = None
    ) -> EpisodeLog:
        """Play one episode to its end.

        Args:
            way: how tokens are pruned. on_progress: called a few times a second with what is known so far.
        """
        if way != self._way:
            self._set(self._policy_parameters, method=way.method, keep_ratio=float(way.keep_ratio))
            self._way = way
        log = self.begin_episode(task, seed)
        running_s, step_s = self.status["running_s"], robot_class(task.name).step_s
        steps = self.options.max_steps or task.max_steps
        # A computer slower than asked stretches the episode; one this slow is of no use.
        patience_s = 30.0 + 10.0 * steps * step_s / (self.options.real_time_factor or 1.0)
        number = self.status["episode"]

        def ended() -> bool:
            log.steps = self.status["step"]
            if on_progress is not None:
                on_progress(log)
            return self.status["state"] == "waiting" and self.status["episode"] == number

        self.spin_until(ended, patience_s, f"the end of an episode of {task.name}")
        log.success, log.running_s = self.status["success"], self.status["running_s"] - running_s
        self._episode = None
        return log

    def begin_episode(self, task: Task, seed: int) -> EpisodeLog:
        """Set task, seed and instruction, and start; time stands still until then, so nothing is left over."""
        self._set(self._parameters, task=task.name, seed=seed)
        self._instruction.publish(String(data=task.instruction))
        self._call(self._reset_policy, Trigger.Request(), "the policy node's reset")
        before = self.status["episode"]
        self._episode = EpisodeLog(task.name, seed, self._way)
        answer = self._call(self._reset_simulator, Trigger.Request(), "the simulator's reset")
        if not answer.success:
            raise RuntimeError(f"the simulator refused to start an episode: {answer.message}")
        self.spin_until(lambda: self.status["episode"] > before, 10.0, "the simulator's status")
        return self._episode
