"""Simulated time that jumps or stands still."""

from __future__ import annotations

import time

from .matrix import AGE_S, BUSY_S, PERIOD_S, Report, fault, recovers, stopped_after
from .session import Session

ROW = "clock jumps back or forward; /clock stops"
STOPPED_S = 0.5  # commander.CLOCK_STOPPED_S: steady time without a tick, beyond one period
UNDER_WAY_S = 0.5  # how old the image of a call that is told of can be
SETUP = "simulated time"


def _jump(name: str, seconds: int) -> None:
    @fault(
        name,
        ROW,
        "episode forgotten: no older stamp, the first call keeps all tokens; recovers unaided",
        SETUP,
        recovers=False,
    )
    def inject(session: Session, report: Report) -> None:
        peer = session.peer
        lines = len(session.log_lines())
        start = peer.now_ns() + seconds * 1_000_000_000
        peer.tick_clock(start)
        peer.calls.clear()
        recovers(session, report)
        # What is told of a call that was under way when the clock jumped may still arrive, stamped before it.
        window = (start, start + round((abs(seconds) - UNDER_WAY_S) * 1e9))
        session.drive(lambda: any(window[0] <= c["stamp_ns"] < window[1] for c in peer.calls))
        calls = [c for c in peer.calls if window[0] <= c["stamp_ns"] < window[1]]
        if calls:
            report.saw(f"first call after it keeps {calls[0]['image_kept']} of {calls[0]['image_in']} image tokens")
        full = calls and calls[0]["image_kept"] == calls[0]["image_in"]
        report.must(full, "pruning history forgotten: the first call keeps all tokens")
        noticed = sum("the clock jumped" in line for line in session.log_lines()[lines:])
        report.saw(f"{noticed} line in the log says that the clock jumped")
        report.must(noticed == 1, "said once")


_jump("clock jumps back", -3)
_jump("clock jumps forward", 60)
_jump("clock is set back by 1 s", -1)


@fault("clock stops", ROW, "the watchdog stops the arm by steady time, ERROR says so, recovers unaided", SETUP)
def _(session: Session, report: Report) -> None:
    peer, last = session.peer, session.peer.sent_at
    session.graph.spin_until(lambda: peer.stopped_at() is not None, STOPPED_S + BUSY_S + 1.0)
    after_s = stopped_after(session, report, last, "the last frame, with the clock at rest")
    report.must(after_s < STOPPED_S + 0.1 + BUSY_S, "stopped")
    session.graph.spin_until(lambda: "clock stands still" in peer.status.message, 5.0)
    report.saw(f"{peer.level}: {peer.status.message}")
    report.must(peer.level == "ERROR" and "clock stands still" in peer.status.message, "ERROR that names the clock")


@fault("clock runs at a tenth", ROW, "stamps and ages go by the clock: the arm goes on, recovers", SETUP)
def _(session: Session, report: Report) -> None:
    peer = session.peer
    peer.calls.clear()
    until, last = time.monotonic() + 1.5, 0.0
    assert peer.time_ns is not None
    while time.monotonic() < until:
        session.graph.spin_once(0.005)
        if time.monotonic() - last > 0.0125:
            last = time.monotonic()
            peer.tick_clock(peer.time_ns + 1_250_000)
            if peer.time_ns % 50_000_000 < 1_250_000:
                peer.send()
    report.saw(f"{len(peer.calls)} calls in 0.15 s of simulated time; {peer.level}: {peer.status.message}")
    report.must(peer.calls, "calls go on")


@fault("one command a second", ROW, "a slow rate is no clock that stands still: the arm goes on")
def _(session: Session, report: Report) -> None:
    peer, said = session.peer, set()
    session.set({"command_rate_hz": 1.0, "max_observation_age_ms": 5000.0})
    session.drive_for(0.1)
    peer.commands.clear()

    def some_commands() -> bool:
        said.add(peer.status.message)
        return len(peer.commands) >= 3

    session.drive(some_commands, 10.0)
    session.set({"command_rate_hz": 1 / PERIOD_S, "max_observation_age_ms": AGE_S * 1e3})
    moving = sum(command.moves for command in list(peer.commands)[:3])
    report.saw(f"{moving} of 3 commands move; diagnostics said: {', '.join(sorted(said))}")
    report.must(moving == 3, "all of them move the arm")
    report.must(not any("clock" in text for text in said), "the clock is not blamed")
