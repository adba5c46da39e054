"""What a fault is, how what happens is told, and what many faults have in common: stop, say why, recover."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from .session import Session

AGE_S = 0.5  # max_observation_age_ms of the sessions
PERIOD_S = 1 / 40  # of commands, in the sessions
BUSY_S = 0.4  # a busy computer; what is measured without it is in ``stop_trials``
BOUNDED_S = 2.0  # for a node to end or to be deactivated
SAID_S = 6.0
BACK_S = 8.0
NEWEST = 20  # commands
MORE = "several views, joints, orientation: at another rate, or not there"  # row of what more a policy may take


class Report:
    """What was observed of one fault, and what of the expected was not."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.missing: list[str] = []

    def saw(self, text: str) -> None:
        """Something that was measured."""
        self.seen.append(text)

    def must(self, holds: object, what: str) -> None:
        """Something without which the fault counts as not survived."""
        if not holds:
            self.missing.append(what)

    @property
    def text(self) -> str:
        """All of it in one line."""
        return "; ".join(self.seen + [f"NOT: {what}" for what in self.missing])


@dataclass(frozen=True)
class Fault:
    """One way to go wrong.

    Attributes:
        name: unique. row: of the fault matrix. expected: what the node has to do. setup: of ``session.SETUPS``.
        inject: puts the fault before a healthy node and reports. recovers: the node must be well again afterwards,
            without help. ends: the node is gone afterwards.
    """

    name: str
    row: str
    expected: str
    setup: str
    inject: Callable[[Session, Report], None]
    recovers: bool
    ends: bool


FAULTS: list[Fault] = []


def fault(
    name: str, row: str, expected: str, setup: str = "depth", recovers: bool = True, ends: bool = False
) -> Callable[[Callable[[Session, Report], None]], Callable[[Session, Report], None]]:
    """Decorator: a function that injects a fault and reports."""

    def add(inject: Callable[[Session, Report], None]) -> Callable[[Session, Report], None]:
        FAULTS.append(Fault(name, row, expected, setup, inject, recovers, ends))
        return inject

    return add


def rests(session: Session) -> bool:
    """Whether the arm has been told to stand still for a tenth of a second."""
    stopped = session.peer.stopped_at()
    return stopped is not None and session.peer.commands[-1].received_s - stopped > 0.1


def stopped_after(session: Session, report: Report, since_s: float, event: str) -> float:
    """Seconds from ``since_s`` (steady clock) to the stop, reported as after an event; infinite without one."""
    stopped = session.peer.stopped_at()
    if stopped is None:
        return math.inf
    report.saw(f"stopped {(stopped - since_s) * 1e3:.0f} ms after {event}")
    return stopped - since_s


def stops(session: Session, report: Report, within_s: float = AGE_S + 2 * PERIOD_S, **send: object) -> None:
    """The arm must stop so soon after the frame that was sent last. send: how to go on, see ``Peer.send``."""
    last = session.peer.sent_at
    session.drive(lambda: rests(session), within_s + BUSY_S + 1.0, **send)
    after_s = stopped_after(session, report, last, "the last good frame")
    report.must(after_s < within_s + BUSY_S, f"stopped within {within_s * 1e3:.0f} ms")


def says(session: Session, report: Report, text: str, level: str, **send: object) -> None:
    """Diagnostics must come to this level with this text."""
    peer = session.peer
    reported = session.drive(lambda: peer.level == level and text in peer.status.message, SAID_S, **send)
    report.saw(f"{peer.level}: {peer.status.message}")
    report.must(reported, f"{level} that says {text!r}")


def recovers(session: Session, report: Report, within_s: float = BACK_S) -> None:
    """The arm must move and diagnostics be OK again without help."""
    start, peer = time.monotonic(), session.peer
    back = session.drive(lambda: session.healthy, within_s)
    report.saw(f"well again after {time.monotonic() - start:.1f} s" if back else f"{peer.level}: {peer.status.message}")
    report.must(back, f"well again within {within_s:g} s")


def goes_on(session: Session, report: Report, seconds: float = 0.6, **send: object) -> None:
    """Calls must be made and the arm be moved, after so long at least, however busy the computer was at first."""
    peer, start = session.peer, time.monotonic()
    peer.calls.clear()
    peer.commands.clear()

    def moving() -> float:
        newest = list(peer.commands)[-NEWEST:]
        return sum(command.moves for command in newest) / NEWEST

    going = session.drive(
        lambda: time.monotonic() - start > seconds and len(peer.calls) > 3 and moving() > 0.5, seconds + BACK_S, **send
    )
    report.saw(f"{len(peer.calls)} calls, {moving():.0%} of the newest {NEWEST} commands move")
    report.must(going, "calls and motion go on")
