"""The policy node: camera, depth or cloud, pose and instruction in; commands and diagnostics out.

Threads: one spins the executor, whose callbacks only store the newest messages; one inference worker
(``ros/worker.py``) replaces chunks; the command timer, which reads the one in use, and the watchdog have threads of
their own and wait for neither. What they share is replaced by assignment (chunk, settings, state of the robot) or
locked inside ``Synchronizer`` and ``Commander``, which decides what is sent to the robot.

One thread for all callbacks, not rclpy's multi-threaded executor: that one hands each callback to another thread and
builds its wait set anew for it, half as much processor time again, all of it taken from the worker's interpreter.
"""

from __future__ import annotations

import difflib
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import String
from std_srvs.srv import Trigger

from ..control.action_spaces import CommandForm
from ..control.chunk_buffer import ChunkBuffer
from ..observation.builder import ObservationBuilder
from ..observation.frames import Lookup
from ..observation.streams import is_camera_info
from ..observation.synchronizer import MatchedMessages, Synchronizer
from ..policy.base import Policy
from ..policy.mvla.preprocess import square_image
from ..policy.runtime import PolicyRuntime
from ..policy.source import PolicySource
from ..pruning.methods import make_pruner
from ..reports.overlay import KEPT_FIELDS, draw_overlay, kept_points
from ..types import ActionSpace, Observation
from .autostart import Autostart
from .call_report import CallReport
from .command_publisher import COMMAND_QOS, REPORT_QOS
from .commander import Commander
from .diagnostics import call_json, inference_status
from .environment import prepare_environment
from .malloc import keep_freed_memory
from .parameters import SPECS, ParameterSet, Settings, joint_names_of
from .qos_checks import link_problems
from .robot_state import RobotStateReader
from .ros_messages import ENCODER, use_installed_readers
from .subscriptions import input_topics
from .tf_lookup import Transforms
from .warm_up import frames_of, warm_up
from .watchdog import Watchdog
from .worker import Result, Worker

SENSOR_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
WATCHDOG_PERIOD_S = 0.05
DIAGNOSTICS_PERIOD_S = 1.0
OVERLAY_PX = 192  # about so large is the square that is drawn on, before it is enlarged
# How long the inference thread may hold the interpreter while a callback waits for it. Python's own 5 ms, several times
# per callback, let frames be overwritten before they were taken.
SWITCH_INTERVAL_S = 0.0005


class PolicyNode(LifecycleNode):
    """See the module. Configure loads and warms up, activate turns outputs on, deactivate ends in one safe command."""

    def __init__(self, **options: Any) -> None:
        super().__init__("policy", **options)
        self._policy: Policy | None = None
        self._worker: Worker | None = None
        self._transforms: Transforms | None = None
        self._closed = False  # outputs stay off
        self.configuring = False
        self._refused: str | None = None
        self._chunks = ChunkBuffer()
        self._parameters_ = ParameterSet(self, self._check)
        self._refuse_unknown_overrides()
        settings = self._parameters_.settings

        self._subscribe(settings)
        self._commander = Commander(
            self, lambda: self._parameters_.settings, self._chunks, self._state, self._callback_failed
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._pruning = self.create_publisher(String, "~/pruning", REPORT_QOS)
        self._calls = CallReport(self, REPORT_QOS)
        self._overlay = self.create_publisher(Image, "~/overlay", SENSOR_QOS)
        self._kept_points = self.create_publisher(PointCloud2, "~/kept_points", SENSOR_QOS)
        self.create_service(Trigger, "~/reset", self._reset_service)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._watchdog: Watchdog | None = None
        self._drift_ns: int | None = None  # node clock minus steady clock at the last look
        self._reported_level = DiagnosticStatus.OK  # the last in the log
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._diagnose, clock=steady)
        threshold = JumpThreshold(
            min_forward=Duration(nanoseconds=round(settings["max_clock_jump_ms"] * 1e6)),
            min_backward=Duration(nanoseconds=-1),
            on_clock_change=True,
        )
        # Kept, or the callback is dropped with its handle.
        self._jump = self.get_clock().create_jump_callback(threshold, post_callback=self._clock_jumped)

    def _refuse_unknown_overrides(self) -> None:
        """rclpy leaves out what it does not know: a misspelt limit would silently not hold."""
        known = [*SPECS, "use_sim_time", "start_type_description_service"]
        for name in self._parameter_overrides:
            if name not in known and not name.startswith("qos_overrides."):
                near = difflib.get_close_matches(name, known, 1)
                raise ValueError(f"unknown parameter {name!r}" + (f": did you mean {near[0]!r}?" if near else ""))

    def create_publisher(self, *args: Any, **options: Any) -> Any:
        """Without rclpy's warning of QoS that does not match.

        It is an object of its own for each topic, which the executor takes up at every message: a quarter of its time.
        ``link_problems`` says the same, in the diagnostics.
        """
        options.setdefault("event_callbacks", PublisherEventCallbacks(use_default_callbacks=False))
        return super().create_publisher(*args, **options)

    def create_subscription(self, *args: Any, **options: Any) -> Any:
        """Without it as well."""
        options.setdefault("event_callbacks", SubscriptionEventCallbacks(use_default_callbacks=False))
        return super().create_subscription(*args, **options)

    # --- inputs: store and return ------------------------------------------------------------------------------

    def _subscribe(self, settings: Settings) -> None:
        topics = {}
        for name, (kind, topic) in input_topics(settings).items():
            subscription = self.create_subscription(
                kind,
                topic,
                lambda m, n=name: self._take(n, m),
                # Of its own: rclpy writes what is overridden into the profile, and one stream's would be all streams'.
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            topics[name] = subscription.topic_name
        self._state = RobotStateReader(self, settings["base_frame"], joint_names_of(settings))
        self._store = Synchronizer(topics, unstamped=tuple(filter(is_camera_info, topics)))
        self.create_subscription(String, "~/instruction", self._instruct, COMMAND_QOS)

    def _take(self, name: str, message: Any) -> None:
        age_ns = round(self._parameters_.settings["max_observation_age_ms"] * 1e6)
        self._store.put(name, message, self.get_clock().now().nanoseconds, age_ns)
        if name == "ee_pose":
            self._state.take_pose(message)

    def _instruct(self, message: String) -> None:
        result = self.set_parameters([Parameter("instruction", value=message.data)])[0]
        self._refused = None if result.successful else f"instruction refused, the old one stays: {result.reason}"
        if self._refused:
            self.get_logger().warning(self._refused)

    def _check(self, settings: Settings) -> None:
        """What only a loaded policy can say of a set of parameters."""
        if self._policy is not None and settings["instruction"]:
            self._policy.check_instruction(settings["instruction"])

    def _observe(self, matched: MatchedMessages, settings: Settings) -> Observation:
        return self._builder.build(matched, settings["instruction"])

    def _listen_to_tf(self) -> Lookup:
        if self._transforms is None:
            self._transforms = Transforms(self, lambda: self._parameters_.settings["tf_timeout_ms"] / 1e3)
        return self._transforms.lookup

    # --- lifecycle ---------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load, check, warm up; on failure one message says what to do."""
        self.configuring = True
        try:
            return self._configure()
        finally:
            self.configuring = False

    def _take_form(self, space: ActionSpace, action_dim: int) -> None:
        """See ``PolicySource.load``; what is known here is which commands can be made of such actions."""
        settings = self._parameters_.settings
        self._form = CommandForm(settings["command_interface"], space, action_dim, joint_names_of(settings))

    def _configure(self) -> TransitionCallbackReturn:
        settings = self._parameters_.settings
        try:
            self._builder = ObservationBuilder(frames_of(settings, self._listen_to_tf))
            if settings["torch_threads"]:
                import torch

                torch.set_num_threads(settings["torch_threads"])
            source = PolicySource.of(settings["policy"])
            policy = source.load(settings["device"], settings["precision"], self._take_form)
            source.pruning()  # the declared defaults; a broken file must not pass unseen
            if settings["instruction"]:
                policy.check_instruction(settings["instruction"])
            runtime = PolicyRuntime(
                policy, make_pruner(settings["method"], settings["keep_ratio"], settings.pruning, settings["seed"])
            )
            warmed = warm_up(runtime, settings)
        except ValueError as error:
            self.get_logger().error(f"cannot configure: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # rclpy would swallow it without a word
            self.get_logger().error(f"cannot configure: {type(error).__name__}: {error}")
            return TransitionCallbackReturn.FAILURE
        self._policy, self._runtime = policy, runtime
        self._calls.configured(settings, source, policy.device_name)
        # What is loaded stays: a full collection would go through all of torch's and Open3D's objects, and hold up
        # commands while it does.
        gc.collect()
        gc.freeze()
        self.get_logger().info(
            f"policy {settings['policy']} on {policy.device_name}, first call {warmed.first_ms:.0f} ms, then "
            f"{warmed.full_ms:.1f} ms with all visual tokens and {warmed.pruned_ms:.1f} ms pruned"
            + ("" if runtime.prune else ": nothing is pruned")
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and the commands."""
        with self._commander.lock:
            return TransitionCallbackReturn.FAILURE if self._closed else self._activate(state)

    def _activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self._worker is not None and self._worker.alive:
            self.get_logger().error("cannot activate: the last policy call still hangs; restart the node")
            return TransitionCallbackReturn.FAILURE
        self._chunks.flush()
        self._runtime.reset()
        self._worker = Worker(
            self._runtime, self._store, self._chunks, lambda: self._parameters_.settings, self._observe, self._publish
        )
        self._worker.start()
        self._commander.start(self._form, self._worker)
        self._watchdog = Watchdog(WATCHDOG_PERIOD_S, self._watch)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the worker, then send one safe command."""
        self._halt()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._policy = None
        gc.unfreeze()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._halt()
        return TransitionCallbackReturn.SUCCESS

    def _halt(self) -> None:
        if not self._commander.stop():
            return
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._worker is not None and self._worker.stop():
            self._worker = None
        elif self._worker is not None:
            self.get_logger().error("the policy call hangs; it is left behind")

    def close(self) -> None:
        """One safe command if active, whatever state the node is in; none is sent after it. Called at exit."""
        with self._commander.lock:
            self._closed = True
        self._halt()

    # --- time and episodes -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """On a thread of its own, by steady time."""
        self._check_clock_step()
        self._commander.watch()

    def _check_clock_step(self) -> None:
        """A system clock that was set is a jump too; rclpy only reports jumps of simulated time."""
        if self.get_parameter("use_sim_time").value:
            return
        drift_ns = self.get_clock().now().nanoseconds - time.monotonic_ns()
        limit_ns = self._parameters_.settings["max_clock_jump_ms"] * 1e6
        if self._drift_ns is not None and abs(drift_ns - self._drift_ns) > limit_ns:
            self.get_logger().warning("the system clock was set: episode forgotten")
            self._forget()
        self._drift_ns = drift_ns

    def _clock_jumped(self, jump: TimeJump) -> None:
        self.get_logger().warning("the clock jumped: episode forgotten")
        self._forget()

    def _forget(self) -> None:
        self._chunks.flush()
        self._store.flush()
        if self._transforms is not None:
            self._transforms.flush()
        if self._worker is not None:
            self._worker.reset()

    def _reset_service(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._forget()
        response.success, response.message = True, "episode forgotten"
        return response

    # --- what it says of itself --------------------------------------------------------------------------------

    def _publish(self, result: Result) -> None:
        """Detail of one call, when somebody listens. On the worker's thread."""
        inference, observation = result.inference, result.observation
        self._calls.publish(result, self._parameters_.settings, self._store.topics)
        age_ms = (self.get_clock().now().nanoseconds - observation.stamp_ns) / 1e6
        if self._pruning.get_subscription_count():
            self._pruning.publish(ENCODER.text(call_json(result, age_ms, self._store.frames_received)))
        if self._overlay.get_subscription_count():
            grid = inference.layout.grid[0]
            size = max(1, OVERLAY_PX // grid) * grid
            image, camera = square_image(observation.image, observation.camera, size)
            picture = draw_overlay(image, inference.selection, inference.layout, camera)
            frame = self._parameters_.settings["camera_frame"]
            self._overlay.publish(ENCODER.image(picture, "rgb8", observation.stamp_ns, frame))
        if self._kept_points.get_subscription_count():
            points = kept_points(inference.selection, inference.layout)
            frame = self._parameters_.settings["base_frame"]
            self._kept_points.publish(ENCODER.cloud(KEPT_FIELDS, points, observation.stamp_ns, frame))

    def _diagnose(self) -> None:
        settings = self._parameters_.settings
        limit_s = settings["max_observation_age_ms"] / 1e3
        policy = self._policy
        status = inference_status(
            f"{self.get_name()}: inference",
            active=self._commander.active,
            worker=self._worker,
            store=self._store,
            silent=self._store.silent(limit_s),
            refused=self._refused,
            max_age_s=limit_s,
            slow_ms=settings["slow_policy_ms"],
            instruction=settings["instruction"],
            device=policy.device_name if policy else settings["device"],
            memory_mb=policy.memory_mb() if policy else 0.0,
            late_shapes=policy.late_shapes if policy else 0,
            pruning=bool(policy) and self._runtime.prune and settings["method"] != "none",
            commands=self._commander.counts | {"clock_stopped": self._commander.clock_stopped()},
            motion=self._commander.findings(),
            image_publishers=self.count_publishers(self._store.topics["image"]),
            stopped_s=self._commander.stopped_s(),
            links=link_problems(self, list(self._store.topics.values()), self._commander.publishers),
        )
        self._report(status)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _callback_failed(self, error: Exception) -> None:
        """One bad callback must not leave the arm without commands."""
        self.get_logger().error(f"callback failed: {type(error).__name__}: {error}", throttle_duration_sec=1.0)

    def _report(self, status: DiagnosticStatus) -> None:
        """One line in the log when a problem begins, one when it is over; the rest is on /diagnostics."""
        if not self._commander.active or status.level == self._reported_level:
            return
        self._reported_level = status.level
        log, waiting = self.get_logger(), self._worker is None or self._worker.last is None
        if status.level == DiagnosticStatus.OK:
            log.info("running")
        elif status.level == DiagnosticStatus.ERROR and not waiting:
            log.error(status.message)
        else:
            log.warning(status.message)


def run(args: Sequence[str] | None = None, kind: type[PolicyNode] = PolicyNode) -> int:
    """Run the node until SIGINT or SIGTERM; one safe command at the end. 1 when it could not be configured."""
    prepare_environment()
    keep_freed_memory()
    use_installed_readers()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    stopping, node = threading.Event(), None

    def stop(*_: object) -> None:
        first = not stopping.is_set()
        stopping.set()
        if first and node is not None and node.configuring:
            raise KeyboardInterrupt  # out of a configuration that a lifecycle manager asked for

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        node = kind()
    except (ValueError, ParameterException) as error:
        print(f"policy: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    autostart = Autostart(node, stopping) if node.get_parameter("autostart").value else None
    try:
        while not stopping.is_set() and rclpy.ok():
            try:
                executor.spin_once(timeout_sec=0.1)
            except (ExternalShutdownException, KeyboardInterrupt):
                break
            except Exception as error:
                node._callback_failed(error)
    finally:
        node.close()
        if not node.configuring:  # in a thread of its own, which cannot be interrupted: the process ends underneath
            executor.shutdown(timeout_sec=0.5)
            node.destroy_node()
            rclpy.try_shutdown()
    return 1 if autostart is not None and autostart.failed else 0


def main() -> None:
    """Entry point of the executable ``policy_node``."""
    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is closed; what is left, unloading torch and Open3D, takes seconds on a busy computer.
    os._exit(code)


if __name__ == "__main__":
    main()
