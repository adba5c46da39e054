"""The simulated robot as a ROS 2 node: sensors and /clock out, velocity commands in.

Threads: physics, rendering and all publishing run in the main thread, because a MuJoCo GL context belongs to one
thread; subscriptions, the reset service and parameters are served by an executor in a second thread. What both
touch is guarded by ``SimulatorNode._lock``.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import TwistStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Bool, Float64, String
from std_srvs.srv import Trigger

from ..configuration.fields import Field
from ..messages.decode import stamp_ns
from ..node.environment import prepare_environment
from ..node.ros_messages import ENCODER
from ..node.ros_parameters import declare, refuse_unknown_overrides, take_whole_numbers
from ..node.ros_releases import ParameterCallbacks, publisher_count
from ..node.start import StartError, on_ending_signals, print_help, start_node
from .libero.tasks import SUITES
from .metaworld.tasks import TASKS
from .pacing import Pacer
from .robot import Robot, require_simulator, robot_class, robot_of
from .sensors import SensorTopics
from .tasks import task_named
from .wiring import wiring_of

START_NS = 1_000_000_000  # simulated time 0 would read as "no time yet" everywhere in ROS
STATUS_PERIOD_S = 0.5  # wall time
REPORT_PERIOD_S = 5.0  # wall time
RESET_PATIENCE_S = 1.0  # wall time
IDLE_PERIOD_S = 0.1  # wall time between repetitions of an unchanged /clock

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)

PARAMETERS = {
    "task": Field(
        "button-press-topdown",
        f"Task of the next episode: {', '.join(TASKS)}; {', '.join(f'{suite}/0 to /9' for suite in SUITES)}. It stays "
        "with the robot, Meta-World's or LIBERO's, that the node was started with.",
    ),
    "seed": Field(0, "Seed of the next episode's scene; with auto_reset it counts up.", 0, 2**31 - 1),
    "real_time_factor": Field(
        1.0,
        "Simulated over wall time, not counting what it takes to draw pictures; 0: as fast as possible.",
        0.0,
        100.0,
    ),
    "camera_rate_hz": Field(20.0, "Sensor messages per simulated second, at most one a step.", 0.1, 80.0),
    "image_size": Field(192, "Edge of the picture, pixels.", 16, 2048, fixed=True),
    "auto_reset": Field(
        True, "Start the first episode at once and another after each. False: time stands still until ~/reset."
    ),
    "wait_for_command": Field(
        False, "With auto_reset: the first episode begins when the first command has come. False: at once."
    ),
    "max_steps": Field(0, "Steps after which an episode has failed; 0 takes the task's own.", 0, 1_000_000),
    "command_timeout_s": Field(
        0.25, "Simulated seconds without a command after which the arm holds its position.", 0.0125, 60.0
    ),
    "policy_reset_service": Field(
        "", "std_srvs/Trigger called when auto_reset starts an episode; empty calls none.", fixed=True
    ),
}


class SimulatorNode(ParameterCallbacks, Node):
    """Runs episodes of the simulated robot. Call ``run`` from the thread that constructed it."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__("simulator", **node_options)
        self._lock = threading.Lock()
        self._values = declare(self, PARAMETERS)
        require_simulator(self._values["task"])
        self._robot_class = robot_class(self._values["task"])
        take_whole_numbers(self, PARAMETERS)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._take_parameters)

        self._time_ns = START_NS
        self._episode = 0
        self._episode_start_ns = 0
        self._running = False
        self._seed = 0
        self._steps = 0
        self._frames_sent = 0
        self._commands_received = 0
        self._command = np.zeros(self._robot_class.action_dim)
        self._command_ns: int | None = None
        self._reset_wanted: threading.Event | None = None
        self._reset_answer = (True, "")
        self._stop = threading.Event()
        self.callbacks_failed = False
        self._pacer = Pacer(REPORT_PERIOD_S, START_NS)
        self._instruction_listeners = 0
        self._robot: Robot | None = None

        # Keeping every frame that was not yet sent costs memory and adds age, so depth is 1 like the subscriber's.
        sensor = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._sensors = SensorTopics(self, sensor, wiring_of(self._values["task"]))
        self._clock_publisher = self.create_publisher(Clock, "/clock", 10)
        self._success = self.create_publisher(Bool, "~/success", LATCHED)
        self._status = self.create_publisher(String, "~/status", LATCHED)
        self._instruction = self.create_publisher(String, "~/instruction", LATCHED)
        self._twist = self.create_subscription(TwistStamped, "~/command/twist", self._take_twist, RELIABLE)
        self.create_subscription(Float64, "~/command/gripper", self._take_gripper, RELIABLE)
        self.create_service(Trigger, "~/reset", self._serve_reset)
        service = self._values["policy_reset_service"]
        self._policy_reset = self.create_client(Trigger, service) if service else None
        refuse_unknown_overrides(self, PARAMETERS)

    # Executor thread

    def _check_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == "task":
                try:
                    robot = robot_class(parameter.value)
                except ValueError as error:
                    return SetParametersResult(successful=False, reason=str(error))
                if robot is not self._robot_class:
                    reason = f"task {parameter.value!r} is for another robot: start the node with it"
                    return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _take_parameters(self, parameters: Sequence[Parameter]) -> None:
        with self._lock:
            # A new dictionary each time: the main thread may be reading the old one.
            self._values = self._values | {p.name: p.value for p in parameters if p.name in PARAMETERS}

    def _take_twist(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        # A hand that does not turn takes the first three.
        velocity = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])[: len(self._command) - 1]
        sent_ns = stamp_ns(message.header)
        with self._lock:
            self._commands_received += 1
            # A command of the episode before, still on its way when this one began, must not move the arm. No
            # stamp at all (`ros2 topic pub`) counts as now.
            if 0 < sent_ns < self._episode_start_ns:
                return
            if not np.isfinite(velocity).all():
                self.get_logger().warning(f"a command that is not finite was ignored: {velocity}", once=True)
                return
            self._command[:-1] = velocity
            self._command_ns = self._time_ns

    def _take_gripper(self, message: Float64) -> None:
        if np.isfinite(message.data):
            with self._lock:
                self._command[-1] = float(np.clip(message.data, -1.0, 1.0))

    def _serve_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        done = threading.Event()
        with self._lock:
            self._reset_wanted = done
        # The first episode of a task loads its model.
        if not done.wait(60.0):
            response.success, response.message = False, "the simulation did not answer within 60 s"
        else:
            response.success, response.message = self._reset_answer
        return response

    # Main thread

    def stop(self) -> None:
        """End ``run``; may be called from anywhere, also from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Simulate until ``stop``."""
        self._publish_status()
        status_due = time.monotonic()
        self._pacer.restart()
        while not self._stop.is_set():
            with self._lock:
                values, wanted, self._reset_wanted = self._values, self._reset_wanted, None
            if wanted is not None:
                self._reset_answer = self._begin_episode()
                wanted.set()
                self._pacer.restart()
            elif values["auto_reset"] and self._episode == 0 and self._may_begin(values):
                self._begin_episode()
                self._pacer.restart()
            step_s = self._robot_class.step_s
            factor = values["real_time_factor"] if self._running else step_s / IDLE_PERIOD_S
            if self._running:
                self._step(values)
            else:
                self._publish_clock()
            self._pacer.stepped(self._running)
            if time.monotonic() >= status_due:
                status_due = time.monotonic() + STATUS_PERIOD_S
                self._publish_status()
            if self._pacer.report_due(self._time_ns):
                self.get_logger().info(
                    f"{self._pacer.achieved:.2f} x real time (asked {factor:g}), step {self._steps}, "
                    f"{self._frames_sent} frames sent"
                )
            self._pacer.wait(step_s, factor, self._stop)

    def _may_begin(self, values: dict) -> bool:
        return not values["wait_for_command"] or self._commands_received > 0

    def _begin_episode(self, seed: int | None = None) -> tuple[bool, str]:
        values = self._values
        task = task_named(values["task"])
        self._seed = values["seed"] if seed is None else seed
        robot = robot_of(task.name, values["image_size"])
        if robot is not self._robot:
            # The first picture and the first step of a model take a second or more, which would be lag in the episode.
            robot.reset(0)
            robot.render()
            robot.step(np.zeros(robot.action_dim))
        self._robot = robot
        robot.reset(self._seed)
        if self._episode == 0:
            for name, value in wiring_of(task.name).parameters().items():
                self.get_logger().info(f"for the policy node: {name} {value}")
        with self._lock:
            self._episode += 1
            self._episode_start_ns = self._time_ns
            self._command[:] = 0.0
            self._command_ns = None
        self._steps = 0
        self._running = True
        self._success.publish(Bool(data=False))
        self._instruction.publish(String(data=task.instruction))
        self._publish_status()
        text = f"episode {self._episode}: {task.name}, seed {self._seed}"
        self.get_logger().info(text)
        return True, text

    def _step(self, values: dict) -> None:
        robot = self._robot
        assert robot is not None
        every = max(1, round(1 / (values["camera_rate_hz"] * robot.step_s)))
        if self._steps % every == 0:
            began = time.monotonic()
            self._sensors.publish(robot, self._time_ns)
            # A camera takes none of its robot's time. If the steps after it made up for what drawing takes, the picture
            # would reach the policy by so much older, and the commands would come too late for those steps.
            self._pacer.stood_still(time.monotonic() - began)
            self._frames_sent += 1
        with self._lock:
            timeout_ns = values["command_timeout_s"] * 1e9
            command = self._command.copy()
            if self._command_ns is None or self._time_ns - self._command_ns > timeout_ns:
                command[:-1] = 0.0  # the gripper keeps its last command: opening it would drop what it holds
            self._time_ns += round(robot.step_s * 1e9)
        robot.step(command)
        self._steps += 1
        self._publish_clock()
        if robot.success or self._steps >= (values["max_steps"] or robot.task.max_steps):
            self._end_episode(robot.success, values)

    def _end_episode(self, success: bool, values: dict) -> None:
        self._running = False
        self._success.publish(Bool(data=success))
        self.get_logger().info(
            f"episode {self._episode} {'succeeded' if success else 'failed'} after {self._steps} steps"
        )
        self._publish_status()
        if values["auto_reset"]:
            self._tell_policy()
            self._begin_episode(self._seed + 1)

    def _tell_policy(self) -> None:
        """Let the policy node forget the episode before the next one begins; time stands still meanwhile."""
        if self._policy_reset is None or not self._policy_reset.service_is_ready():
            return
        done = threading.Event()
        self._policy_reset.call_async(Trigger.Request()).add_done_callback(lambda _: done.set())
        if not done.wait(RESET_PATIENCE_S):
            self.get_logger().warning(f"{self._policy_reset.srv_name} did not answer within {RESET_PATIENCE_S:g} s")

    def _publish_clock(self) -> None:
        self._clock_publisher.publish(Clock(clock=ENCODER.time(self._time_ns)))

    def _publish_status(self) -> None:
        robot = self._robot
        # A policy node that came after the beginning of the episode has not heard what to do.
        listeners = self._instruction.get_subscription_count()
        if robot is not None and listeners > self._instruction_listeners:
            self._instruction.publish(String(data=robot.task.instruction))
        self._instruction_listeners = listeners
        status = {
            "state": "running" if self._running else "waiting",
            "episode": self._episode,
            "task": robot.task.name if robot else self._values["task"],
            "seed": self._seed,
            "step": self._steps,
            "success": bool(robot and robot.success),
            "time_s": self._time_ns / 1e9,
            "running_s": round(self._pacer.running_s, 3),  # wall time in which simulated time went on
            "real_time_factor": round(self._pacer.achieved, 3),
            "frames_sent": self._frames_sent,
            "image_subscribers": self._sensors.image_subscribers,
            "command_publishers": publisher_count(self, self._twist),
            "commands_received": self._commands_received,
        }
        self._status.publish(String(data=json.dumps(status)))


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of the executable ``simulator_node``."""
    prepare_environment()
    if print_help(args, "simulator_node", "A simulated robot with cameras: publishes what it sees, takes commands."):
        return 0
    try:
        node = start_node(SimulatorNode, args)
    except StartError as error:
        print(f"simulator_node: error: {error}", file=sys.stderr)
        return 2
    # Signals only end the loop: the executor of rclpy's handlers would vanish under a publish in progress.
    on_ending_signals(lambda *_: node.stop())
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=_spin, args=(executor, node), name="callbacks", daemon=True)
    thread.start()
    try:
        node.run()
    finally:
        executor.shutdown()
        thread.join(5.0)
        node.destroy_node()
        rclpy.shutdown()
    return 1 if node.callbacks_failed else 0


def _spin(executor: SingleThreadedExecutor, node: SimulatorNode) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        pass
    except BaseException:
        # A simulator that no longer hears commands would go on publishing as if all were well.
        node.callbacks_failed = True
        node.stop()
        raise


if __name__ == "__main__":
    sys.exit(main())
