"""The policy node: camera, depth or cloud, pose and instruction in; commands and diagnostics out.

Threads: one spins the executor, whose callbacks only store the newest messages; one inference worker (``worker``) puts
chunks; the command timer, which reads the one in use, and the watchdog have threads of their own and wait for neither.
What they share is replaced by assignment (chunk, settings, state of the robot) or locked inside ``Synchronizer``,
``ChunkBuffer`` and ``Commander``, which decides what is sent to the robot.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger

from ..control.chunk_buffer import ChunkBuffer
from ..observation.frames import Lookup
from ..observation.synchronizer import MatchedMessages
from ..policy.base import Policy
from ..types import Observation
from ..viewer.calls import Status
from .call_report import CallReport
from .clock_watch import ClockWatch
from .command_publisher import COMMAND_QOS
from .commander import Commander
from .diagnostics import LEVEL_NAMES, View
from .loading import Loaded, load
from .parameters import SPECS, ParameterSet, Settings, joint_names_of
from .qos_checks import QuietLinks, link_problems
from .robot_state import RobotStateReader
from .ros_parameters import refuse_unknown_overrides
from .ros_releases import ParameterCallbacks
from .subscriptions import subscribe, synchronizer
from .tf_lookup import TfLookup
from .watchdog import Watchdog
from .worker import Result, Worker

WATCHDOG_PERIOD_S = 0.05
DIAGNOSTICS_PERIOD_S = 1.0


class PolicyNode(QuietLinks, ParameterCallbacks, LifecycleNode):
    """See the module. Configure loads and warms up, activate turns outputs on, deactivate ends in one safe command.

    Attributes:
        configuring: whether a policy is being loaded.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("policy", **options)
        self._loaded: Loaded | None = None  # all that configure made
        self._worker: Worker | None = None
        self._tf: TfLookup | None = None
        self._watchdog: Watchdog | None = None
        self._closed = False  # outputs stay off
        self.configuring = False
        self._refused: str | None = None
        self._reported_level = DiagnosticStatus.OK  # the last in the log
        self._chunks = ChunkBuffer()
        self._parameters_ = ParameterSet(self, self._check)
        self.add_post_set_parameters_callback(self._instruction_set)
        self._subscribe(self._settings())
        self._commander = Commander(self, self._settings, self._chunks, self._state, self.callback_failed)
        self._calls = CallReport(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(Trigger, "~/reset", self._reset_service)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._diagnose, clock=Clock(clock_type=ClockType.STEADY_TIME))
        refuse_unknown_overrides(self, SPECS)
        self._clock_watch = ClockWatch(self, self._settings, self._forget)

    def _settings(self) -> Settings:
        """The newest snapshot of the parameters."""
        return self._parameters_.settings

    def _max_age_s(self) -> float:
        return self._settings()["max_observation_age_ms"] / 1e3

    # --- inputs: store and return ------------------------------------------------------------------------------

    def _subscribe(self, settings: Settings) -> None:
        topics = subscribe(self, settings, self._take)
        self._state = RobotStateReader(self, settings["base_frame"], joint_names_of(settings), self._max_age_s)
        self._store = synchronizer(settings, topics)
        instruction = self.create_subscription(String, "~/instruction", self._instruct, COMMAND_QOS)
        self._shared_topics = [topics["gripper"]] if settings["gripper_joint"] else []
        self._input_topics = [*topics.values(), instruction.topic_name]

    def _take(self, name: str, message: Any) -> None:
        age_ns = round(self._settings()["max_observation_age_ms"] * 1e6)
        taken = self._store.put(name, message, self.get_clock().now().nanoseconds, age_ns)
        if name == "joint_states":
            self._state.take_joints(message)
        elif taken and name == "ee_pose":
            self._state.take_pose(message)

    def _instruct(self, message: String) -> None:
        result = self.set_parameters([Parameter("instruction", value=message.data)])[0]
        if not result.successful:
            self._refused = f"instruction refused, the old one stays: {result.reason}"
            self.get_logger().warning(self._refused)

    def _instruction_set(self, parameters: Sequence[Parameter]) -> None:
        """One that was accepted, on whatever way, ends the warning of one that was not."""
        if any(parameter.name == "instruction" for parameter in parameters):
            self._refused = None

    def _check(self, settings: Settings) -> None:
        """What only a loaded policy can say of a set of parameters."""
        if self._loaded is not None and settings["instruction"]:
            self._loaded.policy.check_instruction(settings["instruction"])

    def _listen_to_tf(self) -> Lookup:
        settings = self._settings()
        asked_by = [name for name in ("extrinsics_source", "ee_pose_source") if settings[name] == "tf"]
        self._tf = TfLookup(self, lambda: self._settings()["tf_timeout_ms"] / 1e3, asked_by)
        return self._tf.lookup

    # --- lifecycle ---------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load, check, warm up; on failure one message says what to do."""
        self.configuring = True
        try:
            self._setup()
        except Exception as error:  # rclpy would swallow it without a word
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            self.get_logger().error(f"cannot configure: {reason}")
            self._teardown()
            return TransitionCallbackReturn.FAILURE
        finally:
            self.configuring = False
        return TransitionCallbackReturn.SUCCESS

    def _setup(self) -> None:
        """Make all that ``_teardown`` lets go of."""
        settings = self._settings()
        loaded = load(settings, self._listen_to_tf, self.get_logger().warning)
        self._calls.configured(settings, loaded)
        self._loaded = loaded
        self._store.not_needed = frozenset() if loaded.takes_joints else frozenset(["joint_states"])
        self._state.attach(loaded.frames, self._tf)
        self._check_what_was_said_meanwhile(settings, loaded.policy)
        # What is loaded stays: a full collection would go through all of torch's and Open3D's objects, and hold up
        # commands while it does.
        gc.collect()
        gc.freeze()
        self.get_logger().info(loaded.summary(settings))

    def _check_what_was_said_meanwhile(self, before: Settings, policy: Policy) -> None:
        """An instruction that came while the policy was loaded could not be checked then. Args: before: settings."""
        words = self._settings()["instruction"]
        if words and words != before["instruction"]:
            try:
                policy.check_instruction(words)
            except ValueError as error:
                self.set_parameters([Parameter("instruction", value="")])
                self._refused = f"instruction refused, there is none now: {error}"
                self.get_logger().warning(self._refused)

    def _teardown(self) -> None:
        """One safe command if active, then let go of model, runtime, worker and tf listener."""
        self._halt()
        self._worker = self._loaded = None
        self._calls.close()
        self._state.detach()
        if self._tf is not None:
            self._tf.close()
            self._tf = None
        gc.unfreeze()
        gc.collect()  # what is in cycles goes now: the next configure must not hold two models

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and the commands."""
        with self._commander.lock:
            return TransitionCallbackReturn.FAILURE if self._closed else self._activate(state)

    def _activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        loaded = self._loaded
        assert loaded is not None, "activate follows configure"
        if self._worker is not None and self._worker.alive:
            self.get_logger().error("cannot activate: the last policy call still hangs; restart the node")
            return TransitionCallbackReturn.FAILURE
        self._chunks.flush()
        loaded.runtime.reset()

        def observe(matched: MatchedMessages, settings: Settings) -> Observation:
            return loaded.builder.build(matched, settings["instruction"], self._commander.last_pose)

        self._worker = Worker(loaded.runtime, self._store, self._chunks, self._settings, observe, self._publish)
        self._worker.start()
        self._commander.start(loaded.form, self._worker)
        self._watchdog = Watchdog(WATCHDOG_PERIOD_S, self._watch)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the worker, then send one safe command."""
        self._halt()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._teardown()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._teardown()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition raised: back to unconfigured, with the arm stopped."""
        self._teardown()
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
        self._calls.close()

    # --- time and episodes -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """On a thread of its own, by steady time."""
        self._clock_watch.check_clock_step()
        self._commander.watch()

    def _forget(self) -> None:
        self._chunks.flush()
        self._store.flush()
        self._state.flush()
        if self._tf is not None:
            self._tf.flush()
        if self._worker is not None:
            self._worker.reset()

    def _reset_service(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._forget()
        response.success, response.message = True, "episode forgotten"
        return response

    # --- what it says of itself --------------------------------------------------------------------------------

    def _publish(self, result: Result) -> None:
        """Detail of one call, on the worker's thread."""
        self._calls.publish(result, self._settings(), self._store)

    def _diagnose(self) -> None:
        view = View(
            name=self.get_fully_qualified_name().strip("/"),
            settings=self._settings(),
            loaded=self._loaded,
            worker=self._worker,
            store=self._store,
            commander=self._commander,
            refused=self._refused,
            image_publishers=self.count_publishers(self._store.topics["image"]),
            links=link_problems(self, self._input_topics, self._commander.publishers, self._shared_topics),
            live_view=self._calls.view,
        )
        status = view.status()
        self._report(status)
        now_ns, counts = self.get_clock().now().nanoseconds, self._commander.counts
        self._calls.tell(Status(now_ns, LEVEL_NAMES[status.level], status.message, dict(counts)))
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def callback_failed(self, error: Exception) -> None:
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
