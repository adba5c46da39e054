"""A node that hears what the policy node would hear, and says nothing.

It has no publisher of commands and no service. It has the policy node's name, so that parameter files and remappings
mean the same, and it subscribes, matches and converts with the same functions.

Threads: one spins the executor, whose callback stores messages; the caller of ``listen`` matches and converts them, as
the policy node's inference thread does.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String

from ..messages.decode import ConversionError, stamp_ns
from ..observation.builder import ObservationBuilder
from ..observation.frames import Frames, Lookup
from ..observation.reasons import Reasons
from ..observation.streams import is_camera_info
from ..preflight.evidence import Arrivals, Evidence, Expected
from ..types import Observation
from .command_publisher import COMMAND_QOS
from .graph_facts import stream_of
from .loading import LoadedPolicy, frames_of, takes_joints
from .parameters import SPECS, ParameterSet, Settings
from .qos_checks import QuietLinks, link_problems
from .ros_messages import installed_readers
from .ros_parameters import refuse_unknown_overrides
from .ros_releases import ParameterCallbacks
from .subscriptions import input_topics, subscribe, synchronizer
from .tf_lookup import TfLookup

SETTLE_S = 0.05  # in which what has queued up is taken
TWICE_S = 0.02  # between the two arrivals of one message
BUILD_PERIOD_S = 0.2  # between observations that are made: the computer is to serve the listening first


class PreflightNode(QuietLinks, ParameterCallbacks, Node):
    """See the module. Use ``start``, ``listen``, ``evidence``, ``close`` in this order.

    Attributes:
        settings: the policy node's parameters, checked. instruction: the last that was heard.
    """

    def __init__(self, **options: Any) -> None:
        """Raises ValueError for parameters that do not hold together."""
        super().__init__("policy", start_parameter_services=False, enable_rosout=False, **options)
        self.settings: Settings = ParameterSet(self, lambda settings: None).settings
        self._kinds = input_topics(self.settings)
        self._arrivals = {name: Arrivals.of(name) for name in self._kinds}
        self._lock, self._done = threading.Lock(), False  # the lock guards the two of them
        self._topics: dict[str, str] = {}
        self._topics = subscribe(self, self.settings, self._take)
        self.store = synchronizer(self.settings, self._topics)
        self.instruction = ""
        heard = self.create_subscription(String, "~/instruction", self._instruct, COMMAND_QOS)
        self.instruction_topic = heard.topic_name
        refuse_unknown_overrides(self, SPECS)
        self.tf: TfLookup | None = None
        self._frames: Frames | None = None
        self._frames_problem = ""
        self._observation: Observation | None = None
        self._matched = self._built = 0
        self._refusals = Reasons()
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)
        self._thread = threading.Thread(target=self._spin, daemon=True)

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except (ExternalShutdownException, KeyboardInterrupt):
            return

    def _take(self, name: str, message: Any) -> None:
        now_ns, now_s, stamp = self.get_clock().now().nanoseconds, time.monotonic(), stamp_ns(message.header)
        with self._lock:
            if self._done:
                return
            known = self._arrivals[name]
            # A latched camera info is heard by two subscriptions.
            again = is_camera_info(name) and known and known.stamps_ns[-1] == stamp
            if not (again and now_s - known.times_s[-1] < TWICE_S):
                known.add(message, stamp, now_s, now_ns)
        self.store.put(name, message, now_ns, round(self._max_age_s * 1e9))

    def _instruct(self, message: String) -> None:
        self.instruction = message.data

    @property
    def _max_age_s(self) -> float:
        return self.settings["max_observation_age_ms"] / 1e3

    def start(self) -> None:
        """Find out where sensors are, and hear whom there is."""
        try:
            self._frames = frames_of(self.settings, self._listen_to_tf)
        except ValueError as error:
            self._frames_problem = str(error)
        self._thread.start()

    def _listen_to_tf(self) -> Lookup:
        asked_by = [name for name in ("extrinsics_source", "ee_pose_source") if self.settings[name] == "tf"]
        self.tf = TfLookup(self, lambda: self.settings["tf_timeout_ms"] / 1e3, asked_by)
        return self.tf.lookup

    def listen(self, seconds: float, policy: LoadedPolicy | None, words: str) -> None:
        """Count and match what arrives, and make observations of it.

        Args:
            policy: what it takes; None: it could not be loaded. words: instruction in observations.
        """
        time.sleep(SETTLE_S)
        self.store.flush()  # what came while the policy was loaded came late
        self.store.drops.clear()
        with self._lock:
            self._arrivals |= {name: Arrivals.of(name) for name in self._arrivals if not is_camera_info(name)}
        told = policy is not None and takes_joints(policy.runtime.policy)
        self.store.not_needed = frozenset() if told else frozenset(["joint_states"])
        self._readers = policy.readers if policy else self.settings.readers(installed_readers()[0])
        builder = ObservationBuilder(self._frames, self._readers) if self._frames is not None else None
        tolerance_ns, until = round(self.settings["sync_tolerance_ms"] * 1e6), time.monotonic() + seconds
        next_build = 0.0
        while (left := until - time.monotonic()) > 0:
            matched = self.store.wait(tolerance_ns, min(left, 0.1))
            self._matched += matched is not None
            if matched is None or builder is None or time.monotonic() < next_build:
                continue
            self._built += 1
            next_build = time.monotonic() + BUILD_PERIOD_S
            try:
                self._observation = builder.build(matched, words)
            except ConversionError as error:
                self._refusals.add(str(error))
        with self._lock:
            self._done = True

    def evidence(self) -> Evidence:
        """What was seen."""
        settings, shared = self.settings, []
        if settings["gripper_joint"]:
            shared.append(self._topics["gripper"])
        silence = self.store.silence_by_stream(self._max_age_s)
        expected = Expected(
            live=True,
            tolerance_s=settings["sync_tolerance_ms"] / 1e3,
            max_age_s=self._max_age_s,
            base_frame=settings["base_frame"],
            camera_frame=settings["camera_frame"],
            gripper=settings.gripper,
            hand=any(settings["hand_frames"]),
            extrinsics_given=settings["extrinsics_source"] == "parameters",
            workspace=(tuple(settings["workspace_lower"]), tuple(settings["workspace_upper"])),
        )
        drops = self.store.drops
        streams = {
            name: stream_of(
                self, name, private.removeprefix("~/"), kind, self._topics[name], self._arrivals[name], drops,
                silence.get(name, ""), shared,
            )
            for name, (kind, private) in self._kinds.items()
        }  # fmt: skip
        return Evidence(
            expected, streams, self._readers, self._frames, self._frames_problem,
            images=len(self._arrivals["image"]), matched=self._matched, built=self._built, refusals=self._refusals,
            unmatched=self.store.unmatched_reason(round(expected.tolerance_s * 1e9)) or "",
            observation=self._observation,
        )  # fmt: skip

    def instruction_links(self) -> list[str]:
        """What is wrong between ~/instruction and who publishes on it."""
        return link_problems(self, [self.instruction_topic], [], [self.instruction_topic])

    def close(self) -> None:
        """Stop listening."""
        if self.tf is not None:
            self.tf.close()
        self._executor.shutdown(timeout_sec=1.0)
        if self._thread.is_alive():
            self._thread.join(1.0)
        self.destroy_node()
