"""Decides what is sent to the robot, and sends it: the action that is due, or the safe command.

Threads: ``_tick`` has the command timer's, ``watch`` runs on the watchdog's thread and needs neither executor nor
worker, services and lifecycle call the rest. One lock covers each decision together with what is published, so that
nothing follows the last safe command.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from std_msgs.msg import Empty

from ..control.action_spaces import CommandForm
from ..control.chunk_buffer import ChunkBuffer
from ..control.commands import Command, MotionRefusedError, command_of, hold_target
from ..control.splicer import Splicer
from .command_publisher import CommandOutput, Decision
from .command_timer import CommandTimer
from .motion_gate import MotionGate
from .parameters import Settings
from .qos_checks import CLAIM, rivals
from .robot_state import RobotStateReader
from .worker import Worker

CLOCK_STOPPED_S = 0.5  # steady time without a tick of the command timer, beyond the periods that it may take
RIVALS_PERIOD_S = 0.2  # between two looks for other policy nodes on the command topic; a look takes a millisecond


class Commander:
    """Commands at a fixed rate while active, whatever inference does.

    Attributes:
        lock: held over each decision. counts: of commands, for diagnostics. active: whether anything is sent at all.
        refused: why the robot's state allows no motion now, else None.
    """

    def __init__(
        self, node: Node, settings: Callable[[], Settings], chunks: ChunkBuffer, state: RobotStateReader,
        failed: Callable[[Exception], None],
    ) -> None:  # fmt: skip
        """Args: settings: newest snapshot. chunks: written by the worker. failed: told what a tick raised."""
        self._node, self._settings, self._chunks, self._state = node, settings, chunks, state
        self._failed = failed
        self._output = CommandOutput(node, settings())
        self._splicer = Splicer()
        self._form: CommandForm | None = None
        self.lock = threading.RLock()
        self._worker: Worker | None = None
        self.active = False
        self.gate = MotionGate(node, settings, lambda: self.active, self.watch)
        self.refused: str | None = None
        self.counts = {
            "commands_sent": 0,
            "commands_clamped": 0,
            "commands_spliced": 0,
            "safe_commands": 0,
            "safe_stops": 0,
        }
        self._pose: np.ndarray | None = None  # the target that was sent last
        self._gripper: float | None = None  # none sent yet, hence none to hold
        self._held: np.ndarray | None = None  # what the safe command holds since the last motion
        self._stopped = True  # the last command was a safe one
        self._rest_ns = 0  # since when, on the node's clock, and nobody else may have moved the arm
        self._parked = False  # motion is not allowed, and the one safe command for it was sent
        self._ticked_at = 0.0
        self._stopped_at = 0.0  # steady seconds of the first of them
        self._timer: CommandTimer | None = None
        self._rivals: list[str] = []  # other policy nodes on the command topic
        self._rivals_at = -math.inf  # steady seconds when they were looked for
        self._made_at = time.monotonic()

    @property
    def publishers(self) -> list[Any]:
        """Of commands."""
        return self._output.publishers

    def start(self, form: CommandForm, worker: Worker) -> None:
        """Begin to send what the worker's chunks make due."""
        with self.lock:
            self._form, self._worker, self._splicer = form, worker, Splicer(form.actions)
            self.gate.restart()
            self._ticked_at = self._stopped_at = time.monotonic()
            self._stopped, self._parked, self.active = True, False, True
            self._rest_ns = self._now_ns()
            self._held, self.refused = None, None
            self._claim = self._node.create_publisher(Empty, f"~/{CLAIM}", 1)
            clock = self._node.get_clock()
            self._timer = CommandTimer(clock, lambda: self._settings()["command_rate_hz"], self._tick, self._failed)

    def stop(self) -> bool:
        """One safe command and nothing after it; False when nothing was active."""
        with self.lock:  # what is being sent is sent first
            if not self.active:
                return False
            self.active = False
            self._chunks.flush()
            self._safe_command("deactivated")
            self._worker = None
            self._node.destroy_publisher(self._claim)
        if self._timer is not None:
            self._timer.cancel()
        return True

    def stopped_s(self) -> float:
        """For how long commands have been safe since no action was due; 0 or less where motion is not allowed."""
        if not self._stopped or self._parked or self.refused is not None:
            return 0.0
        return min(time.monotonic() - self._stopped_at, -self._looks_around_s())

    def clock_stopped(self) -> bool:
        """Whether the node's clock stands still, so that the timer does not tick."""
        limit_s = CLOCK_STOPPED_S + 1 / self._settings()["command_rate_hz"]
        return self.active and time.monotonic() - self._ticked_at > limit_s

    @property
    def last_pose(self) -> np.ndarray | None:
        """(7,) the pose that was last commanded, position in metres and quaternion x y z w; None where none is now."""
        return None if self._stopped else self._pose

    def findings(self) -> list[tuple[bytes, str]]:
        """Why the arm may not be moved, for diagnostics: level and text."""
        objection, refused = self.gate.objection(), self.refused
        found = []
        if objection is not None:
            level = DiagnosticStatus.ERROR if self.gate.heartbeat_lost else DiagnosticStatus.WARN
            found.append((level, f"{objection}: the arm is stopped"))
        elif refused is not None:
            found.append((DiagnosticStatus.ERROR, f"{refused}: the arm is stopped"))
        if (wait_s := self._looks_around_s()) > 0:
            text = f"looks for other policy nodes for {wait_s:.1f} s more before it moves the arm"
            found.append((DiagnosticStatus.WARN, text))
        if self.rivals():
            state = "is not moved by this one" if self._stopped else "is moved by this one, too"
            found.append(
                (DiagnosticStatus.ERROR, f"another policy node, {', '.join(self._rivals)}, sends commands to the same "
                 f"topic: the arm {state}; end one of the two")
            )  # fmt: skip
        return found

    def rivals(self) -> list[str]:
        """Other policy nodes on the command topic: beside one of them this node does not begin to move the arm."""
        if time.monotonic() - self._rivals_at > RIVALS_PERIOD_S:
            self._rivals = rivals(self._node, self._output.publishers[0].topic_name)
            self._rivals_at = time.monotonic()
        return self._rivals

    def _looks_around_s(self) -> float:
        """Seconds for which nothing moves yet, since a node that is new may not have heard of all others."""
        return self._made_at + self._settings()["discovery_wait_ms"] / 1e3 - time.monotonic()

    def watch(self) -> None:
        """Stop the arm when nobody lets it move, or when worker, executor or the node's clock is dead."""
        with self.lock:
            if not self.active or self._park() or self._stopped:
                return
            limit_s = self._settings()["max_observation_age_ms"] / 1e3
            if self.clock_stopped():
                reason = "the clock stands still"
            elif self._worker is None or not self._worker.alive:
                reason = "the inference thread has ended"
            elif time.monotonic() - self._worker.used_at > limit_s:
                reason = "no policy call was finished in time"
            else:
                return
            self._chunks.clear()
            self._safe_command(reason)

    def _tick(self) -> None:
        """One command at the fixed rate, on the node's clock."""
        if not self.active:
            return
        settings = self._settings()
        self._ticked_at = time.monotonic()
        with self.lock:
            if not self.active:
                return
            if self._park():
                self._rest_ns = self._now_ns()  # others may move the arm
            else:
                self._command(settings)

    def _park(self) -> bool:
        """Whether motion is not allowed; says so to the robot once, and leaves it to others from then on."""
        objection = self.gate.objection()
        if objection is not None and not self._parked:
            self._safe_command(objection)
        self._parked = objection is not None
        return self._parked

    def _command(self, settings: Settings) -> None:
        assert self._form is not None
        self.refused, now_ns = None, self._now_ns()
        if not settings["instruction"]:
            self._safe_command("no instruction")
            return
        if self._stopped and self.rivals():
            self._rest_ns = now_ns
            self._safe_command(f"another policy node, {self._rivals[0]}, sends commands to the same topic")
            return
        if self._looks_around_s() > 0:
            self._safe_command("looks for other policy nodes first")
            return
        self._rest_ns = min(self._rest_ns, now_ns)  # time may have gone back
        chunk, worker = self._chunks.chunk, self._worker
        if self._stopped:
            self._chunks.from_rest(now_ns, self._rest_ns)
        due = self._chunks.due(now_ns)
        if chunk is None or due is None or worker is None:
            self._safe_command("no chunk yet" if chunk is None else "the chunk is exhausted")
            return
        if now_ns - worker.seen_ns > settings["max_observation_age_ms"] * 1e6:
            self._safe_command("the observation is too old")
            return
        asked = due[0].actions[due[1]]
        where = {"action": asked, "chunk_stamp_ns": due[0].stamp_ns, "index": due[1]}
        limits, state = settings.limits, self._state.current
        blend, goal_ns = settings["splice"] == "blend", now_ns + round(limits.goal_s * 1e9)
        try:
            motion, spliced = self._splicer.follow(*due, blend, goal_ns, state.pose)
            command = command_of(motion, self._form, limits, state)
        except (MotionRefusedError, ValueError) as error:  # ValueError: an action that is no motion
            self.refused = self._with_topic(str(error))
            self._safe_command(self.refused, **where)
            return
        self._stopped, self._held = False, None
        self._pose = command.values if self._form.interface == "pose" else None
        self.counts["commands_clamped"] += command.clamped
        self.counts["commands_spliced"] += spliced
        self._send(Decision(command, spliced=spliced, **where))

    def _with_topic(self, error: str) -> str:
        if self._state.joints_silent():
            topic = self._node.resolve_topic_name("~/joint_states")
            return f"{error}: nothing on {topic} with all of joint_names"
        return error

    def _safe_command(self, reason: str, **where: Any) -> None:
        """Velocity zero, or hold what was measured; gripper as last commanded: what is held is not dropped."""
        assert self._form is not None
        self.counts["safe_commands"] += 1
        if not self._stopped:
            self.counts["safe_stops"] += 1
            self._stopped, self._stopped_at, self._rest_ns = True, time.monotonic(), self._now_ns()
        try:
            self._held = hold_target(self._held, self._form, self._settings().limits, self._state.current)
            command = Command(self._held, self._gripper)
        except MotionRefusedError as error:
            self._held, command, reason = None, None, f"{reason}; nothing is sent: {error}"
        self._splicer.rest()
        self._send(Decision(command, safe=True, reason=reason, **where))

    def _send(self, decision: Decision) -> None:
        stamp_ns, command = self._now_ns(), decision.command
        try:
            if command is not None:
                self._gripper = command.gripper
                self._output.send(command, stamp_ns, self._settings().limits.lookahead_s)
            self._output.report(decision, stamp_ns)
        except Exception as error:  # the context is gone: nobody listens any more
            print(f"policy: command not sent: {error}", file=sys.stderr)
            return
        self.counts["commands_sent"] += command is not None

    def _now_ns(self) -> int:
        return self._node.get_clock().now().nanoseconds
