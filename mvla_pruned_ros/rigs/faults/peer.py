"""The other end of a policy node: synthetic sensors out, commands and diagnostics in, its services called."""

from __future__ import annotations

import copy
import json
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TwistStamped
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64, String
from std_srvs.srv import SetBool, Trigger

from ...node.diagnostics import LEVEL_NAMES
from ...node.ros_messages import ENCODER
from .. import qos
from ..graph import Graph
from ..synthetic_robot import synthetic_messages

WIDTH, HEIGHT = 160, 120
FRAME_S = 0.1  # between frames
LEAST_SERVED = 3  # callbacks between two frames
MAX_SPEED_M_S = 0.25  # the node's default
LOOKAHEAD_S = 0.1  # likewise, of pose targets
CLOCK_NS = 12_500_000  # of simulated time at once
MAX_TURN_RAD_S = 0.5  # likewise
STATES = ("ee_pose", "gripper", "joint_states")
TOPICS = (
    *STATES, "camera_info", "depth", "image", "points", "image/compressed", "image_1_camera_info", "image_1"
)  # fmt: skip  # whatever a node may hear


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        received_s: steady clock. velocity: m/s, all six components; of a pose target the way to it from the pose that
            was measured, over the time ahead.
    """

    received_s: float
    velocity: tuple[float, ...]

    @property
    def moves(self) -> bool:
        """Whether it is anything but zero; NaN counts as motion."""
        return any(v != 0 for v in self.velocity)


class Peer:
    """Everything a policy node called ``name`` talks to.

    Attributes:
        streams: topics that are sent. messages: what is sent on them, see ``synthetic_messages``.
        commands: newest last. grippers: likewise. turns: quaternions of pose targets, likewise.
        calls: messages of ``~/pruning``. status: the last of /diagnostics.
        sent_at: steady seconds when the newest frame was sent; its stamp was taken at the same moment.
        on_command: called with each command that is heard.
        beyond: commands that were not finite or beyond the speed limits.
        time_ns: simulated time, None where the node goes by the system's.
        frame_s: between frames.
    """

    def __init__(
        self, graph: Graph, name: str, streams: tuple[str, ...], simulated_time: bool = False, interface: str = "twist"
    ) -> None:
        """Args: interface: of commands, ``twist`` or ``pose``."""
        self.graph, self.name, self.streams, self.interface = graph, name, streams, interface
        node = self._node = graph.node
        self.messages = synthetic_messages(TOPICS, WIDTH, HEIGHT)
        self.time_ns: int | None = 5_000_000_000 if simulated_time else None
        self.commands: deque[Command] = deque(maxlen=20_000)
        self.turns: deque[tuple[float, ...]] = deque(maxlen=20_000)
        self.grippers: deque[float] = deque(maxlen=20_000)
        self.calls: deque[dict[str, Any]] = deque(maxlen=2_000)
        self.clouds: deque[PointCloud2] = deque(maxlen=5)
        self.status = DiagnosticStatus()
        self.statuses = 0
        self.beyond = 0
        self.on_command: Callable[[], None] = lambda: None
        self.sent_at, self.frame_s = 0.0, FRAME_S
        self._next_send = 0.0
        self.out: dict[str, Any] = {}
        self.connect()
        self._clock = node.create_publisher(Clock, "/clock", 10)
        self._words = node.create_publisher(String, f"/{name}/instruction", 10)
        self.subscribe()
        self._subscriptions = [
            node.create_subscription(kind, topic, take, profile)
            for kind, topic, take, profile in (
                (Float64, f"/{name}/command/gripper", lambda m: self.grippers.append(m.data), 100),
                (DiagnosticArray, "/diagnostics", self._diagnosed, 10),
                (String, f"/{name}/pruning", lambda m: self.calls.append(json.loads(m.data)), 50),
                (PointCloud2, f"/{name}/kept_points", lambda m: self.clouds.append(m), qos.SENSOR),
            )
        ]
        self.set_parameters = node.create_client(SetParameters, f"/{name}/set_parameters")
        self.set_atomically = node.create_client(SetParametersAtomically, f"/{name}/set_parameters_atomically")
        self.get_parameters = node.create_client(GetParameters, f"/{name}/get_parameters")
        self.change_state = node.create_client(ChangeState, f"/{name}/change_state")
        self.reset = node.create_client(Trigger, f"/{name}/reset")
        self.enable = node.create_client(SetBool, f"/{name}/enable")

    def subscribe(self) -> None:
        """Hear commands."""
        topic = f"/{self.name}/command/{self.interface}"
        kind, take = (PoseStamped, self._targeted) if self.interface == "pose" else (TwistStamped, self._commanded)
        self._commands_subscription = self._node.create_subscription(kind, topic, take, 100)

    def unsubscribe(self) -> None:
        """Hear none until ``subscribe``."""
        self._node.destroy_subscription(self._commands_subscription)

    def connect(self) -> None:
        """Create the sensors' publishers."""
        for topic, message in self.messages.items():
            if topic in self.streams:
                profile = qos.RELIABLE if topic in STATES else qos.SENSOR
                self.out[topic] = self._node.create_publisher(type(message), f"/{self.name}/{topic}", profile)

    def disconnect(self) -> None:
        """Destroy them, as when a driver ends."""
        for publisher in self.out.values():
            self._node.destroy_publisher(publisher)
        self.out.clear()

    def _commanded(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        self._moved_by((linear.x, linear.y, linear.z, angular.x, angular.y, angular.z))

    def _targeted(self, message: PoseStamped) -> None:
        target, measured, turn = message.pose.position, self.messages["ee_pose"].pose.position, message.pose.orientation
        way = (target.x - measured.x, target.y - measured.y, target.z - measured.z)
        self.turns.append((turn.x, turn.y, turn.z, turn.w))
        self._moved_by(tuple(round(distance / LOOKAHEAD_S, 6) for distance in way))

    def _moved_by(self, velocity: tuple[float, ...]) -> None:
        self.commands.append(Command(time.monotonic(), velocity))
        self.on_command()
        limits = [MAX_SPEED_M_S] * 3 + [MAX_TURN_RAD_S] * 3
        self.beyond += not all(abs(v) <= limit + 1e-6 for v, limit in zip(velocity, limits))

    def _diagnosed(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"{self.name}: inference":
                self.status, self.statuses = status, self.statuses + 1

    def close(self) -> None:
        """Destroy all of it."""
        self.disconnect()
        self.unsubscribe()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for client in (
            self.set_parameters, self.set_atomically, self.get_parameters, self.change_state, self.reset, self.enable
        ):  # fmt: skip
            self._node.destroy_client(client)
        for publisher in (self._clock, self._words):
            self._node.destroy_publisher(publisher)

    # --- what it has heard --------------------------------------------------------------------------------------

    @property
    def moving(self) -> bool:
        """Whether the newest command moves the arm."""
        return bool(self.commands) and self.commands[-1].moves

    @property
    def level(self) -> str:
        """Of the last diagnostics."""
        return LEVEL_NAMES[self.status.level]

    def value(self, key: str) -> int:
        """A counter of the diagnostics; 0 before it is there."""
        return next((int(v.value) for v in self.status.values if v.key == key), 0)

    def dropped(self) -> Counter[str]:
        """Counts of drops by cause."""
        prefix = "dropped "
        return Counter({v.key[len(prefix) :]: int(v.value) for v in self.status.values if v.key.startswith(prefix)})

    def stopped_at(self) -> float | None:
        """Steady seconds of the first zero command after the last that moved; None while the arm moves."""
        first = None
        for command in reversed(self.commands):
            if command.moves:
                break
            first = command.received_s
        return first

    # --- what it says -------------------------------------------------------------------------------------------

    def now_ns(self) -> int:
        """As the node should see it."""
        return time.time_ns() if self.time_ns is None else self.time_ns

    def send(
        self, without: tuple[str, ...] | Callable[[], tuple[str, ...]] = (), stamp: Callable[[], int] | None = None,
        stamps: Callable[[], dict[str, int]] | None = None, as_they_are: tuple[str, ...] = (), **replaced: Any,
    ) -> None:  # fmt: skip
        """One frame.

        Args:
            without: streams that stay silent, or gives them each time. stamp: gives one instead of now. stamps:
            likewise for single streams.
            replaced: messages by stream, or functions that give one each time; stamped too unless they are to go
                as_they_are.
        """
        self.sent_at = time.monotonic()
        now = self.now_ns() if stamp is None else stamp()
        own = {} if stamps is None else stamps()
        silent = without() if callable(without) else without
        for topic, publisher in self.out.items():
            if topic in silent:
                continue
            message = replaced.get(topic.replace("/", "_"), self.messages[topic])
            message = message() if callable(message) else message
            if topic not in as_they_are:
                message.header.stamp = ENCODER.time(own.get(topic, now))
            publisher.publish(message)

    def instruct(self, words: String) -> None:
        """Give an instruction on its topic."""
        self._words.publish(words)

    def tick_clock(self, time_ns: int) -> None:
        """Say what time it is."""
        self.time_ns = time_ns
        self._clock.publish(Clock(clock=ENCODER.time(time_ns)))

    def step(self, **send: Any) -> None:
        """Serve callbacks until the next frame or clock tick is due, then send it. send: see ``send``."""
        for _ in range(LEAST_SERVED):  # even where the computer is so busy that the frame is late
            self.graph.spin_once(min(max(0.0, self._next_send - time.monotonic()), 0.002))
        while (left := self._next_send - time.monotonic()) > 0:
            self.graph.spin_once(left)
        period_s = self.frame_s if self.time_ns is None else CLOCK_NS * 1e-9
        self._next_send = max(self._next_send + period_s, time.monotonic() + period_s / 2)
        if self.time_ns is not None:
            self.tick_clock(self.time_ns + CLOCK_NS)
            if self.time_ns % round(self.frame_s * 1e9) >= CLOCK_NS:
                return
        self.send(**send)

    def altered(self, topic: str, **fields: Any) -> Any:
        """A copy of what is sent on a topic, with other fields."""
        message = copy.deepcopy(self.messages[topic])
        for name, value in fields.items():
            setattr(message, name, value)
        return message
