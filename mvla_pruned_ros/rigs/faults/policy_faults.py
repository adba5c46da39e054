"""A policy that is slow, hangs, fails, runs out of memory, or answers with nonsense."""

from __future__ import annotations

import time

from lifecycle_msgs.msg import Transition

from ...node.worker import MAX_FAILURES
from .matrix import BOUNDED_S, BUSY_S, PERIOD_S, Report, fault, goes_on, rests, says, stopped_after, stops
from .peer import FRAME_S
from .session import Session

SLOW = "slow inference, first call"
EXHAUSTED = "chunk exhausted"
ACTION = "non-finite, wrong-size, out-of-limit action"
EVIDENCE = "attention or feature norms not finite"
MEMORY = "GPU out of memory"
FAILING = "model exception, worker dead, kernel hung"
CHUNK_S = 0.2  # of the shipped policy


@fault("slow policy", SLOW, "newest wins, no backlog; WARN, then ERROR; recovers")
def _(session: Session, report: Report) -> None:
    peer = session.peer
    with session.fault("slow 0.3"):
        session.set({"slow_policy_ms": 200.0})
        peer.calls.clear()
        session.drive(lambda: len(peer.calls) >= 6, 10.0)
        waits = [c["age_ms"] - c["policy_ms"] for c in list(peer.calls)[1:]]
        frames = peer.calls[-1]["frames_received"] - peer.calls[0]["frames_received"] if peer.calls else 0
        report.saw(
            f"{len(waits)} calls of {max(c['policy_ms'] for c in peer.calls):.0f} ms over {frames} frames, each began "
            f"with an image at most {max(waits):.0f} ms old"
        )
        report.must(max(waits) < (2 * FRAME_S + BUSY_S) * 1e3, "each call takes the newest image")
        says(session, report, "slower than", "ERROR")
    session.set({"slow_policy_ms": 1000.0})


@fault("first call after activation", SLOW, "warmed up: no slower than the others may be, no warning")
def _(session: Session, report: Report) -> None:
    peer = session.peer
    report.must(session.transition(Transition.TRANSITION_DEACTIVATE), "deactivated")
    peer.calls.clear()
    report.must(session.transition(Transition.TRANSITION_ACTIVATE), "activated")
    session.drive(lambda: len(peer.calls) >= 6)
    times = [c["policy_ms"] for c in peer.calls]
    report.must(len(times) >= 6, "calls")
    report.saw(f"first call {times[0]:.0f} ms, the next five {min(times[1:]):.0f} to {max(times[1:]):.0f} ms")
    report.must(times[0] < 200, "the first call is below slow_policy_ms")


@fault("chunk exhausted", EXHAUSTED, "velocity zero, gripper held, not the last action again; recovers")
def _(session: Session, report: Report) -> None:
    peer = session.peer
    with session.fault(""):  # chunks as the policy makes them
        peer.calls.clear()
        session.drive(lambda: len(peer.calls) >= 3 and peer.moving)
        session.set({"fault": "slow 1.5"})
        session.drive(lambda: rests(session), 3.0)
        seen = peer.calls[-1]["stamp_ns"]  # the call of the chunk that ran out
        steady = time.monotonic() - (time.time_ns() - seen) * 1e-9
        event = f"what the chunk of {CHUNK_S * 1e3:.0f} ms had seen"
        after_s = stopped_after(session, report, steady, event)
        # Before the age limit, which would stop it too.
        report.must(after_s < CHUNK_S + 2 * PERIOD_S + 0.15, "stopped at the chunk's end")
        held = list(peer.grippers)[-5:]
        report.saw(f"gripper {held[-1]:+.2f}")
        report.must(len(set(held)) == 1, "gripper held")


def _stops_until_reset(name: str, row: str, kind: str, text: str, expected: str) -> None:
    """kind: of failure, see ``faulty_policy_node.FAULTS``. text: in the diagnostics."""

    @fault(name, row, f"{expected}; moves again after ~/reset")
    def inject(session: Session, report: Report) -> None:
        with session.fault(kind):
            stops(session, report)
            says(session, report, text, "ERROR")
        session.reset()


for name, kind, text in (
    ("NaN action", "nan", "not finite"),
    ("infinite action", "infinite", "not finite"),
    ("action of the wrong size", "wide", "of shape (16, 5)"),
    ("chunk of the wrong form", "flat", "of shape (64,)"),
    ("empty chunk", "none", "of shape (0, 4)"),
):
    _stops_until_reset(name, ACTION, kind, text, "chunk refused whole, the arm stops, bounded retries, then ERROR")

for name, kind, text in (
    ("feature norm NaN", "nan_evidence 0", "not finite (norm)"),
    ("attention NaN", "nan_evidence 1", "not finite (attention)"),
):
    _stops_until_reset(name, EVIDENCE, kind, text, "call refused, so that no selection goes by it; then ERROR")


@fault("action beyond the limits", ACTION, "clamped and counted; what is sent keeps the limit; recovers")
def _(session: Session, report: Report) -> None:
    peer = session.peer
    before = peer.value("commands_clamped")
    with session.fault("fast"):
        peer.commands.clear()
        session.drive(lambda: peer.value("commands_clamped") > before + 20)
        fastest = max((max(map(abs, c.velocity)) for c in peer.commands), default=0.0)
        clamped = peer.value("commands_clamped") - before
        report.saw(f"{clamped} commands clamped, fastest sent {fastest:.3f} m/s")
        report.must(clamped > 20, "counted")
        report.must(0.2 < fastest <= 0.25 + 1e-6, "0.25 m/s at most, and the arm moves")


@fault("out of device memory once", MEMORY, "freed, one retry with half of the tokens, the arm goes on")
def _(session: Session, report: Report) -> None:
    peer, key = session.peer, "out of device memory, tried with fewer tokens"
    before = peer.dropped()[key]
    peer.calls.clear()
    # In mid-episode: the first call is a full one, and so would be its retry.
    session.drive(lambda: peer.calls and peer.calls[-1]["keep_ratio"] < 0.6)
    peer.calls.clear()
    with session.fault("out_of_memory 1"):
        session.drive(lambda: peer.dropped()[key] > before and len(peer.calls) > 5)
        ratios = [c["keep_ratio"] for c in peer.calls]
        report.saw(f"{peer.dropped()[key] - before} retry, keep ratios of the calls {_rounded(ratios)}")
        report.must(any(r < 0.3 for r in ratios), "one call with half of the tokens")
        report.must(ratios and all(0.2 < r < 0.6 for r in ratios), "no call with all tokens, which would need more")
        report.must(ratios and ratios[-1] > 0.4, "then as asked for")
        goes_on(session, report)


def _rounded(ratios: list[float]) -> str:
    """Each value once, in order of appearance."""
    return ", ".join(dict.fromkeys(f"{r:.2f}" for r in ratios))


RETRIED = "bounded retries, the arm stops, ERROR"
_stops_until_reset("out of device memory always", MEMORY, "out_of_memory 1000000", "out of memory", RETRIED)


@fault("one exception of the model", FAILING, "retried with a reset, the arm goes on")
def _(session: Session, report: Report) -> None:
    peer = session.peer
    with session.fault("raise 1"):
        peer.calls.clear()
        session.drive(lambda: len(peer.calls) > 3)
        first = peer.calls[0]
        report.saw(f"the next call keeps {first['image_kept']} of {first['image_in']} image tokens")
        report.must(any(c["image_kept"] == c["image_in"] for c in list(peer.calls)[:2]), "reset before the retry")
        goes_on(session, report)


@fault("exceptions of the model", FAILING, "bounded retries, the arm stops, ERROR; moves again after ~/reset")
def _(session: Session, report: Report) -> None:
    with session.fault("raise 1000000"):
        stops(session, report)
        says(session, report, f"policy call failed ({MAX_FAILURES} in a row)", "ERROR")
        session.drive_for(0.5)
        report.must(f"({MAX_FAILURES} in a row)" in session.peer.status.message, "no more retries")
    session.reset()


@fault("inference thread ends", FAILING, "the watchdog stops the arm, ERROR says so; a new activation mends it")
def _(session: Session, report: Report) -> None:
    with session.fault("exit"):
        stops(session, report)
        says(session, report, "the inference thread ended", "ERROR")
        report.must(session.transition(Transition.TRANSITION_DEACTIVATE), "deactivated")
        report.must(session.transition(Transition.TRANSITION_ACTIVATE), "activated")


@fault("policy call hangs", FAILING, "the arm stops although the chunk goes on, ERROR; deactivation is bounded")
def _(session: Session, report: Report) -> None:
    with session.fault("hang"):
        stops(session, report)
        says(session, report, "a policy call has not returned", "ERROR")
        start = time.monotonic()
        report.must(session.transition(Transition.TRANSITION_DEACTIVATE), "deactivated")
        report.saw(f"deactivated in {time.monotonic() - start:.1f} s")
        report.must(time.monotonic() - start < BOUNDED_S + BUSY_S, f"deactivated within {BOUNDED_S:g} s")
    until = time.monotonic() + 5.0
    while not session.transition(Transition.TRANSITION_ACTIVATE) and time.monotonic() < until:
        session.drive_for(0.1)
