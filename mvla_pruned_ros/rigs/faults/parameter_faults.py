"""Parameters that make no sense, many at once, and in the middle of a policy call."""

from __future__ import annotations

import math
from typing import Any

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from .matrix import Report, fault, goes_on
from .session import Session

ROW = "parameters: 0, negative, NaN, ratio > 1, a storm, in mid-inference"
STORM = 200


def _refused(label: str, name: str, value: Any) -> None:
    @fault(f"parameter {label}", ROW, "refused with a reason, nothing changes, the arm goes on", recovers=False)
    def inject(session: Session, report: Report) -> None:
        before = session.get(name)
        result = session.set({name: value})[0]
        report.saw(f"{'taken' if result.successful else 'refused'}: {result.reason}")
        report.must(not result.successful and result.reason, "refused with a reason")
        after = session.get(name)
        report.must(after == before, f"{name} stays {before[name]}, is {after[name]}")
        goes_on(session, report, 0.3)


_refused("0", "keep_ratio", 0.0)
_refused("negative", "command_rate_hz", -5.0)
_refused("NaN", "max_speed_m_s", math.nan)
_refused("ratio above 1", "keep_ratio", 1.5)
_refused("of another type", "keep_ratio", "half")


@fault("whole number for a ratio", ROW, "taken: 1 is 1.0, and calls keep all tokens")
def _(session: Session, report: Report) -> None:
    peer, result = session.peer, session.set({"keep_ratio": 1})[0]
    report.saw(f"{'taken' if result.successful else f'refused: {result.reason}'}, {session.get('keep_ratio')}")
    report.must(result.successful, "taken")
    peer.calls.clear()
    session.drive(lambda: len(peer.calls) > 2 and peer.calls[-1]["keep_ratio"] == 1)
    report.saw(f"calls keep {peer.calls[-1]['keep_ratio']:.2f}" if peer.calls else "no calls")
    report.must(peer.calls and peer.calls[-1]["keep_ratio"] == 1, "calls keep all tokens")
    session.set({"keep_ratio": 0.5})


@fault(
    "set with one bad value", ROW, "refused whole: the good ones of an atomic set are not taken either", recovers=False
)
def _(session: Session, report: Report) -> None:
    asked = {"command_rate_hz": 20.0, "max_speed_m_s": 0.1, "keep_ratio": 2.0}
    before = session.get(*asked)
    result = session.set_atomically(asked)
    report.saw(f"{'taken' if result.successful else 'refused'}: {result.reason}; then {session.get(*asked)}")
    report.must(not result.successful and result.reason, "refused with a reason")
    report.must(session.get(*asked) == before, f"unchanged: {before}")
    goes_on(session, report, 0.3)


@fault("storm of parameters", ROW, "all answered, the last is in force, commands go on meanwhile")
def _(session: Session, report: Report) -> None:
    peer = session.peer
    peer.commands.clear()
    ratios = [0.25 + 0.5 * i / (STORM - 1) for i in range(STORM)]
    futures = []
    for ratio in ratios:
        message = Parameter("keep_ratio", value=ratio).to_parameter_msg()
        futures.append(peer.set_parameters.call_async(SetParameters.Request(parameters=[message])))
        session.drive(lambda: True)
        if len(futures) % 10 == 0:
            peer.step()
    session.drive(lambda: all(f.done() for f in futures), 60.0)
    answered = sum(f.done() and f.result().results[0].successful for f in futures)
    final = session.get("keep_ratio")["keep_ratio"]
    moving = sum(c.moves for c in peer.commands) / max(1, len(peer.commands))
    report.saw(f"{answered} of {STORM} taken, keep_ratio is {final:g}")
    report.saw(f"{moving:.0%} of {len(peer.commands)} commands move")
    report.must(answered == STORM and final == ratios[-1], "all taken, the last in force")
    report.must(moving > 0.5, "the arm goes on")
    session.drive(lambda: abs(peer.calls[-1]["keep_ratio"] - final) < 0.02)
    report.saw(f"calls keep {peer.calls[-1]['keep_ratio']:.2f}")
    report.must(abs(peer.calls[-1]["keep_ratio"] - final) < 0.02, "calls keep so many")


@fault("parameter in mid-inference", ROW, "the call under way ends with the old value, the next has the new one")
def _(session: Session, report: Report) -> None:
    peer = session.peer
    with session.fault("slow 0.4"):
        peer.calls.clear()
        session.drive(lambda: len(peer.calls) >= 2)
        before = len(peer.calls)
        session.drive_for(0.15)  # well inside the next call
        report.must(session.set({"keep_ratio": 0.25})[0].successful, "taken")
        within = len(peer.calls) == before
        session.drive(lambda: len(peer.calls) >= before + 3)
        ratios = [round(c["keep_ratio"], 2) for c in list(peer.calls)[before:]]
        report.saw(f"set {'in' if within else 'after'} a call; keep ratios from that call on: {ratios}")
        report.must(all(abs(r - 0.5) < 0.02 or abs(r - 0.25) < 0.02 for r in ratios), "nothing in between")
        if within:
            report.must(abs(ratios[0] - 0.5) < 0.02, "the call under way keeps its ratio")
        report.must(ratios and abs(ratios[-1] - 0.25) < 0.02, "the new ratio")
