"""The policy node: camera, depth or cloud, pose and instruction in; velocity commands and diagnostics out.

Threads: executor callbacks only store the newest messages or read the chunk in use; one inference worker
(``ros/worker.py``) replaces chunks. Command timer, watchdog and inputs are in callback groups of their own, so that
none waits for another. What they share is replaced by assignment (chunk, settings) or locked inside ``InputStore``.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, PointCloud2
from std_msgs.msg import Float64, Header, String
from std_srvs.srv import Trigger

from ..chunks import ChunkBuffer, limit_command
from ..geometry import depth_to_points
from ..models import policy_folder
from ..overlay import draw_overlay
from ..policy.inputs import square_image
from ..policy.mvla import MVLAPolicy
from ..pruning.methods import make_pruner
from ..runtime import PolicyRuntime
from ..types import CameraModel, Observation
from . import conversions as convert
from .diagnostics import call_json, inference_status
from .environment import prepare_environment
from .inputs import InputStore, MatchedMessages
from .parameters import ParameterSet, Settings
from .worker import Result, Worker

SENSOR_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
COMMAND_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
WATCHDOG_PERIOD_S = 0.02
CLOCK_STOPPED_S = 0.5  # steady time without a tick of the command timer
DIAGNOSTICS_PERIOD_S = 1.0


class PolicyNode(LifecycleNode):
    """See the module. Configure loads and warms up, activate turns outputs on, deactivate ends in one safe command."""

    def __init__(self, **options: Any) -> None:
        super().__init__("policy", **options)
        self._policy: MVLAPolicy | None = None
        self._worker: Worker | None = None
        self._active = False
        self._refused: str | None = None
        self._chunks = ChunkBuffer()
        self._last_result: Result | None = None
        self._gripper = 0.0
        self._end_effector: np.ndarray | None = None
        self._counts = {"commands_sent": 0, "commands_clamped": 0, "safe_commands": 0, "safe_stops": 0}
        self._stopped = True  # the last command was a safe one
        self._ticked_at = 0.0
        self._last_now_ns = 0
        self._parameters_ = ParameterSet(self, self._check)
        settings = self._parameters_.settings

        self._input_group = MutuallyExclusiveCallbackGroup()
        self._command_group = MutuallyExclusiveCallbackGroup()
        self._watchdog_group = MutuallyExclusiveCallbackGroup()
        self._service_group = MutuallyExclusiveCallbackGroup()
        self._subscribe(settings)
        self._twist = self.create_publisher(TwistStamped, "~/command/twist", COMMAND_QOS)
        self._gripper_command = self.create_publisher(Float64, "~/command/gripper", COMMAND_QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._pruning = self.create_publisher(String, "~/pruning", COMMAND_QOS)
        self._overlay = self.create_publisher(Image, "~/overlay", SENSOR_QOS)
        self._kept_points = self.create_publisher(PointCloud2, "~/kept_points", SENSOR_QOS)
        self.create_service(Trigger, "~/reset", self._reset_service, callback_group=self._service_group)
        self._timer_rate = 0.0
        self._command_timer: Any = None
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(WATCHDOG_PERIOD_S, self._watch, self._watchdog_group, clock=steady)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._diagnose, self._service_group, clock=steady)
        threshold = JumpThreshold(
            min_forward=Duration(nanoseconds=round(settings["max_clock_jump_ms"] * 1e6)),
            min_backward=Duration(nanoseconds=-1),
            on_clock_change=True,
        )
        # Kept, or the callback is dropped with its handle.
        self._jump = self.get_clock().create_jump_callback(threshold, post_callback=self._clock_jumped)

    # --- inputs: store and return ------------------------------------------------------------------------------

    def _subscribe(self, settings: Settings) -> None:
        cloud = settings["cloud_source"]
        compressed = settings["image_transport"] == "compressed"
        kinds: dict[str, tuple[type, str]] = {
            "image": (CompressedImage, "~/image/compressed") if compressed else (Image, "~/image"),
            cloud: (Image if cloud == "depth" else PointCloud2, f"~/{cloud}"),
            "camera_info": (CameraInfo, "~/camera_info"),
            "ee_pose": (PoseStamped, "~/ee_pose"),
            "gripper": (JointState, "~/gripper"),
        }
        topics = {}
        for name, (kind, topic) in kinds.items():
            subscription = self.create_subscription(
                kind, topic, lambda m, n=name: self._take(n, m), SENSOR_QOS, callback_group=self._input_group
            )
            topics[name] = subscription.topic_name
        self._store = InputStore(topics, unstamped=("camera_info",))
        self.create_subscription(String, "~/instruction", self._instruct, COMMAND_QOS,
                                 callback_group=self._service_group)  # fmt: skip

    def _take(self, name: str, message: Any) -> None:
        age_ns = round(self._parameters_.settings["max_observation_age_ms"] * 1e6)
        self._store.put(name, message, self.get_clock().now().nanoseconds, age_ns)
        if name == "ee_pose":
            p = message.pose.position
            self._end_effector = np.array([p.x, p.y, p.z], np.float32)

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
        """Matched messages as an observation, on the worker's thread. Raises ConversionError."""
        m = matched.messages
        base, camera_frame, pose = settings["base_frame"], settings["camera_frame"], self._base_from_camera
        compressed = settings["image_transport"] == "compressed"
        image = (convert.compressed_to_rgb if compressed else convert.image_to_rgb)(m["image"])
        camera = convert.camera_model(m["camera_info"], image.shape[1], image.shape[0], pose)
        if "depth" in m:
            frame = m["depth"].header.frame_id
            if frame != camera_frame:
                raise convert.ConversionError(
                    f"depth image is in frame {frame!r}, not {camera_frame!r}: register it to the colour camera or set "
                    "camera_frame and extrinsics.*"
                )
            depth = convert.depth_to_metres(m["depth"])
            height, width = depth.shape
            points = depth_to_points(depth, convert.camera_model(m["camera_info"], width, height, pose))
        else:
            points = convert.cloud_to_points(m["points"], base, camera_frame, pose)
        position = convert.pose_to_position(m["ee_pose"], base)
        proprio = np.append(position, np.float32(convert.gripper_opening(m["gripper"])))
        return Observation(matched.stamp_ns, image, points, camera, proprio, settings["instruction"])

    # --- lifecycle ---------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load, check, warm up; on failure one message says what to do."""
        settings = self._parameters_.settings
        try:
            self._base_from_camera = _extrinsics(settings)
            if settings["torch_threads"]:
                import torch

                torch.set_num_threads(settings["torch_threads"])
            policy = MVLAPolicy.load(policy_folder(settings["policy"]), settings["device"])
            if settings["instruction"]:
                policy.check_instruction(settings["instruction"])
            runtime = PolicyRuntime(
                policy, make_pruner(settings["method"], settings["keep_ratio"], settings.pruning, settings["seed"])
            )
            warm_up_ms = _warm_up(runtime, settings)
        except ValueError as error:
            self.get_logger().error(f"cannot configure: {error}")
            return TransitionCallbackReturn.FAILURE
        self._policy, self._runtime = policy, runtime
        self.get_logger().info(f"policy {settings['policy']} on {policy.device_name}, first call {warm_up_ms:.0f} ms")
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and the commands."""
        self._chunks.flush()
        self._runtime.reset()
        self._worker = Worker(
            self._runtime, self._store, self._chunks, lambda: self._parameters_.settings, self._observe, self._publish
        )
        self._worker.start()
        self._stopped, self._ticked_at, self._active = True, time.monotonic(), True
        self._set_command_timer(self._parameters_.settings["command_rate_hz"])
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the worker, then send one safe command."""
        self._halt()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._policy = None
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._halt()
        return TransitionCallbackReturn.SUCCESS

    def _halt(self) -> None:
        if not self._active:
            return
        self._active = False
        if self._command_timer is not None:
            self._command_timer.cancel()
        if self._worker is not None and not self._worker.stop():
            self.get_logger().error("the policy call hangs; it is left behind")
        self._worker = None
        self._chunks.flush()
        self._safe_command()

    def close(self) -> None:
        """One safe command if active, whatever state the node is in. Called at exit."""
        self._halt()

    # --- commands ----------------------------------------------------------------------------------------------

    def _set_command_timer(self, rate_hz: float) -> None:
        if self._command_timer is not None:
            self.destroy_timer(self._command_timer)
        self._timer_rate = rate_hz
        self._command_timer = self.create_timer(1.0 / rate_hz, self._tick, self._command_group)

    def _tick(self) -> None:
        """One command at the fixed rate, on the node's clock."""
        if not self._active:
            return
        settings = self._parameters_.settings
        self._ticked_at = time.monotonic()
        now_ns = self.get_clock().now().nanoseconds
        chunk = self._chunks.chunk
        stale = chunk is not None and now_ns - chunk.stamp_ns > settings["max_observation_age_ms"] * 1e6
        action = None if stale else self._chunks.action_at(now_ns)
        if action is None:
            self._safe_command()
        else:
            command, clamped = limit_command(action, settings.limits, self._end_effector)
            self._counts["commands_clamped"] += clamped
            self._stopped = False
            self._send(command)
        if self._timer_rate != settings["command_rate_hz"]:
            self._set_command_timer(settings["command_rate_hz"])

    def _safe_command(self) -> None:
        """Velocity zero, gripper as last commanded: what is held is not dropped."""
        self._counts["safe_commands"] += 1
        self._counts["safe_stops"] += not self._stopped
        self._stopped = True
        self._send(np.array([0, 0, 0, self._gripper], np.float32))

    def _send(self, command: np.ndarray) -> None:
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._parameters_.settings["base_frame"])
        twist = TwistStamped(header=header)
        linear = twist.twist.linear
        linear.x, linear.y, linear.z = (float(v) for v in command[:3])
        self._gripper = float(command[3])
        try:
            self._twist.publish(twist)
            self._gripper_command.publish(Float64(data=self._gripper))
        except Exception as error:  # the context is gone: nobody listens any more
            print(f"policy: command not sent: {error}", file=sys.stderr)
            return
        self._counts["commands_sent"] += 1

    def _watch(self) -> None:
        """On a steady clock, without the worker and without the node's clock: stop the arm when either is dead."""
        if not self._active or self._stopped:
            return
        limit_s = self._parameters_.settings["max_observation_age_ms"] / 1e3
        last = self._worker.calls[-1] if self._worker is not None and self._worker.calls else -np.inf
        now = time.monotonic()
        if self._clock_stopped() or now - last > limit_s:
            self._chunks.flush()
            self._safe_command()

    def _clock_stopped(self) -> bool:
        return time.monotonic() - self._ticked_at > CLOCK_STOPPED_S

    # --- time and episodes -------------------------------------------------------------------------------------

    def _clock_jumped(self, jump: TimeJump) -> None:
        self.get_logger().warning("the clock jumped: episode forgotten")
        self._forget()

    def _forget(self) -> None:
        self._chunks.flush()
        self._store.flush()
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
        age_ms = (self.get_clock().now().nanoseconds - observation.stamp_ns) / 1e6
        if self._pruning.get_subscription_count():
            self._pruning.publish(String(data=call_json(result, age_ms, self._store.frames_received)))
        stamp = Time(nanoseconds=observation.stamp_ns).to_msg()
        if self._overlay.get_subscription_count():
            assert self._policy is not None
            size = self._policy.config.image_size
            image, camera = square_image(observation.image, observation.camera, size)
            picture = draw_overlay(image, inference.selection, inference.layout, camera)
            frame = self._parameters_.settings["camera_frame"]
            self._overlay.publish(convert.rgb_to_image(picture, Header(stamp=stamp, frame_id=frame)))
        if self._kept_points.get_subscription_count():
            kept = inference.selection.points_kept
            n2, selection = inference.selection.num_image, inference.selection
            salience = np.zeros(len(kept)) if selection.salience is None else selection.salience[n2:][kept]
            sets = np.zeros(len(kept)) if selection.sets is None else selection.sets[n2:][kept]
            header = Header(stamp=stamp, frame_id=self._parameters_.settings["base_frame"])
            points = inference.layout.point_positions[kept]
            self._kept_points.publish(convert.kept_points_cloud(points, salience, sets, header))

    def _diagnose(self) -> None:
        settings = self._parameters_.settings
        limit_s = settings["max_observation_age_ms"] / 1e3
        policy = self._policy
        status = inference_status(
            f"{self.get_name()}: inference",
            active=self._active,
            worker=self._worker,
            store=self._store,
            silent=self._store.silent(limit_s),
            refused=self._refused,
            max_age_s=limit_s,
            slow_ms=settings["slow_policy_ms"],
            instruction=settings["instruction"],
            device=policy.device_name if policy else settings["device"],
            memory_mb=policy.memory_mb() if policy else 0.0,
            commands=self._counts | {"clock_stopped": self._active and self._clock_stopped()},
            image_publishers=self.count_publishers(self._store.topics["image"]),
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def _extrinsics(settings: Settings) -> np.ndarray:
    """(4, 4) base_from_camera. Raises ValueError when it was not given: identity would be a guess."""
    translation, rotation = settings["extrinsics.translation"], settings["extrinsics.rotation_xyzw"]
    if not np.isfinite([*translation, *rotation]).all():
        raise ValueError(
            "extrinsics.translation and extrinsics.rotation_xyzw are not set: give the pose of the camera's optical "
            "frame in the base frame (metres; quaternion x y z w)"
        )
    norm = float(np.linalg.norm(rotation))
    if abs(norm - 1) > 1e-2:
        raise ValueError(f"extrinsics.rotation_xyzw {list(rotation)} has length {norm:.3f}, a quaternion needs 1")
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(rotation).as_matrix()
    pose[:3, 3] = translation
    return pose


def _warm_up(runtime: PolicyRuntime, settings: Settings) -> float:
    """Run the policy on made-up input, so that the first real call is not slow; milliseconds of the first call.

    Kernels are chosen and memory is taken at the first call of a shape, so a pruned call is made as well.
    """
    policy = runtime.policy
    assert isinstance(policy, MVLAPolicy)
    config, rng = policy.config, np.random.default_rng(0)
    size = config.image_size
    points = rng.uniform(config.workspace_lower, config.workspace_upper, (4000, 3)).astype(np.float32)
    pose = np.eye(4)
    pose[:3, 3] = points.mean(0) - [0, 0, 1]
    camera = CameraModel(size, size, size, size, size / 2, size / 2, pose)
    image = rng.integers(0, 256, (size, size, 3), np.uint8)
    proprio = np.append(points.mean(0), np.ones(config.proprio_dim - 3)).astype(np.float32)
    instruction = settings["instruction"] or policy.tokenizer.words[0]
    start = time.perf_counter()
    first = 0.0
    for _ in range(3):
        runtime.infer(Observation(0, image, points, camera, proprio, instruction))
        first = first or (time.perf_counter() - start) * 1e3
    runtime.reset()
    return first


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; one safe command at the end. 1 when it could not be configured."""
    prepare_environment()
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    stopping: list[int] = []
    try:
        node = PolicyNode()
    except (ValueError, rclpy.exceptions.ParameterException) as error:
        print(f"policy: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = MultiThreadedExecutor(num_threads=4)
    executor.add_node(node)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: (stopping.append(n), executor.wake()))
    code = 0
    try:
        if node.get_parameter("autostart").value:
            if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
                return 1
            node.trigger_activate()
        while not stopping and rclpy.ok():
            executor.spin_once(timeout_sec=0.2)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.close()
        executor.shutdown(timeout_sec=0.5)
        node.destroy_node()
        rclpy.try_shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main())
