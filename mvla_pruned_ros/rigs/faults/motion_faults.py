"""Who lets the arm move, and whether: ``~/enable``, instructions, another policy node, a robot that is not known."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable

import numpy as np
from lifecycle_msgs.msg import Transition
from std_msgs.msg import String

from ...node.parameters import SPECS
from ...node.ros_messages import ENCODER
from ..child_process import ChildNode
from .matrix import AGE_S, BUSY_S, PERIOD_S, Report, fault, goes_on, rests, says, stopped_after
from .session import INSTRUCTION, READY_S, Session

ENABLE = "motion refused or allowed, before and after activation; another policy node on the command topic"
WORDS = "instruction refused, or empty"
POSE = "pose interface: the pose dies, or its orientation changes signs"
END_S = 20.0  # for a node to end on a busy computer
STILL_S = 0.7  # long enough for a chunk
LOOKS_AROUND_MS: float = SPECS["discovery_wait_ms"].default  # as on a robot; the session's own node does without


def _inactive(session: Session, report: Report, meanwhile: Callable[[], None] = lambda: None) -> None:
    report.must(session.transition(Transition.TRANSITION_DEACTIVATE), "deactivated")
    meanwhile()
    session.peer.commands.clear()
    report.must(session.transition(Transition.TRANSITION_ACTIVATE), "activated")


def _still(session: Session, report: Report) -> None:
    """The arm does not move until it is allowed to, and diagnostics say what to call."""
    session.drive_for(STILL_S)
    moved = sum(command.moves for command in session.peer.commands)
    report.saw(f"{moved} of {len(session.peer.commands)} commands move")
    report.must(not moved, "the arm stands still")
    says(session, report, f"not enabled: call /{session.name}/enable", "WARN")
    report.must(session.enable(True).success, "enabled")


@fault("motion refused, then activated anew", ENABLE, "the refusal outlives it: no motion until ~/enable is true")
def _(session: Session, report: Report) -> None:
    report.must(session.enable(False).success, "acknowledged")
    _inactive(session, report)
    _still(session, report)


@fault("motion refused while inactive", ENABLE, "acknowledged, and obeyed after activation until ~/enable is true")
def _(session: Session, report: Report) -> None:
    _inactive(session, report, lambda: report.must(session.enable(False).success, "acknowledged"))
    _still(session, report)


@fault("motion allowed while inactive", ENABLE, "refused with the reason: nothing said before starts the arm")
def _(session: Session, report: Report) -> None:
    def allow() -> None:
        answer = session.enable(True)
        report.saw(answer.message)
        report.must(not answer.success and "activate it first" in answer.message, "refused with the reason")

    report.must(session.enable(False).success, "acknowledged")
    _inactive(session, report, allow)
    _still(session, report)


# --- instructions


@fault(
    "instruction refused, then a valid one", WORDS, "the old one stays, WARN names the words; gone with the valid one"
)
def _(session: Session, report: Report) -> None:
    session.peer.instruct(String(data="juggle the flamingo"))
    says(session, report, "instruction refused", "WARN")
    goes_on(session, report)
    session.peer.instruct(String(data=INSTRUCTION))


@fault("instruction emptied in motion", WORDS, "the arm stops at the next command, not at the chunk's end; WARN")
def _(session: Session, report: Report) -> None:
    asked = time.monotonic()
    session.set({"instruction": ""})
    session.drive(lambda: rests(session), 2.0)
    after_s = stopped_after(session, report, asked, "it was asked for")
    report.must(after_s < 2 * PERIOD_S + 0.25, "stopped at the next command")
    says(session, report, "no instruction", "WARN")
    session.set({"instruction": INSTRUCTION})


# --- another policy node


class _Rival:
    """A second policy node that hears the session's sensors and commands its arm.

    Attributes:
        sent: what it has sent, lines of ``~/command/sent``.
    """

    def __init__(self, session: Session) -> None:
        name, own = "second_policy", session.name
        shared = (*session.peer.streams, "command/twist")
        self._node = session.graph.node
        self._subscription = self._node.create_subscription(String, f"/{name}/command/sent", self._heard, 50)
        self.sent: list[dict[str, object]] = []
        remaps = {f"/{name}/{topic}": f"/{own}/{topic}" for topic in shared}
        self.child: ChildNode = session.another(name, remaps, discovery_wait_ms=LOOKS_AROUND_MS)

    def _heard(self, message: String) -> None:
        self.sent.append(json.loads(message.data))

    def end(self, session: Session, report: Report) -> None:
        """End it, while frames go on, and hear no more of it; killed, it would stay in the graph for 20 s."""
        self.child.interrupt()
        session.drive(lambda: self.child.process.poll() is not None, END_S)
        report.must(self.child.process.poll() == 0, "the second ends when it is told to")
        self.child.end()
        self._node.destroy_subscription(self._subscription)


@fault("second policy node", ENABLE, "the later one does not begin to move the arm; ERROR names it")
def _(session: Session, report: Report) -> None:
    rival = _Rival(session)
    try:
        session.drive(lambda: len(rival.sent) > 20 or rival.child.process.poll() is not None, READY_S)
        says(session, report, "another policy node, /second_policy", "ERROR")
        session.peer.commands.clear()
        session.drive_for(STILL_S + LOOKS_AROUND_MS / 1e3)
        moved = sum(not one["safe"] for one in rival.sent)
        own = sum(command.moves for command in session.peer.commands)
        report.saw(f"{moved} of {len(rival.sent)} commands of the second move the arm, and {own} of the first")
        reasons = dict.fromkeys(str(one["reason"]) for one in rival.sent)
        report.saw(f"the second, in turn: {'; '.join(reasons) if reasons else rival.child.tail(3)}")
        report.must(not moved, "the second does not move the arm")
        report.must("another policy node" in str(rival.sent[-1]["reason"]), "and says why")
        report.must(own > 5, "the first goes on")
    finally:
        rival.end(session, report)


# --- pose targets


@fault(
    "ee_pose silent, pose commanded", POSE, "nothing is sent that is older than the limit, nor at deactivation", "pose"
)
def _(session: Session, report: Report) -> None:
    peer, without, last = session.peer, ("ee_pose",), session.peer.sent_at
    says(session, report, f"/{session.name}/ee_pose", "ERROR", without=without)
    after_s = peer.commands[-1].received_s - last
    report.saw(f"last target {after_s * 1e3:.0f} ms after the last good frame")
    report.must(after_s < AGE_S + 2 * PERIOD_S + BUSY_S, "no target beyond the age limit")
    session.drive_for(0.3, without=without)
    peer.commands.clear()
    session.drive_for(0.5, without=without)
    report.must(session.transition(Transition.TRANSITION_DEACTIVATE, silent=True), "deactivated")
    session.graph.spin_for(0.2)
    report.saw(f"{len(peer.commands)} commands once the pose is not known any more, and at deactivation")
    report.must(not peer.commands, "nothing is sent")
    report.must(session.transition(Transition.TRANSITION_ACTIVATE), "activated")


@fault("orientation changes signs", POSE, "q and -q are one rotation: the targets do not flip", "pose")
def _(session: Session, report: Report) -> None:
    peer, signs = session.peer, itertools.cycle((1.0, -1.0))
    place = peer.messages["ee_pose"].pose.position

    def pose() -> object:
        sign = next(signs)
        turn = (0.6 * sign, 0.0, 0.0, 0.8 * sign)
        return ENCODER.pose((place.x, place.y, place.z), 0, peer.messages["ee_pose"].header.frame_id, turn)

    session.drive_for(0.5, ee_pose=pose)
    peer.turns.clear()
    goes_on(session, report, 1.5, ee_pose=pose)
    turns = np.array(peer.turns)
    flips = int((np.sum(turns[1:] * turns[:-1], 1) <= 0).sum())
    report.saw(f"{flips} flips in {len(turns)} targets")
    report.must(len(turns) > 20 and not flips, "no flip")
