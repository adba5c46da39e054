"""Checkpoints that cannot be loaded; ends in the middle of a policy call."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lifecycle_msgs.msg import Transition
from safetensors.torch import load_file, save_file

from ...configuration.files import write_json
from ...configuration.reader import read_json
from .matrix import BOUNDED_S, BUSY_S, Report, fault
from .session import DEFAULTS, READY_S, NodeFailedError, Session

CHECKPOINT = "checkpoint missing, malformed, wrong shapes, pickled code"
START = "parameter file, names or environment that do not hold together"
END = "SIGINT, SIGTERM, SIGHUP, SIGQUIT, deactivate in mid-inference"
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class MakesFile:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def _bad_checkpoint(name: str, text: str, spoil: Callable[[Path], object]) -> None:
    """text: in the message. spoil: changes a good policy folder."""

    @fault(name, CHECKPOINT, "configure fails with one message that names what is wrong", "lifecycle", recovers=False)
    def inject(session: Session, report: Report) -> None:
        folder, lines = session.policy_folder, len(session.log_lines())
        kept = Path(shutil.copytree(folder, folder.with_name("kept")))
        try:
            spoil(folder)
            configured = session.transition(Transition.TRANSITION_CONFIGURE, silent=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            kept.rename(folder)
        errors = [line.split("cannot configure: ")[-1] for line in session.log_lines()[lines:] if "[ERROR]" in line]
        report.saw(("configured" if configured else "not configured") + "".join(f": {e}" for e in errors))
        report.must(not configured, "configure fails")
        report.must(len(errors) == 1 and text in errors[0], f"one message with {text!r}")
        marker = folder.with_name("pickle_was_run")
        report.must(not marker.exists(), "no code of the checkpoint is run")


def _weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        change(weights)
        save_file(weights, folder / WEIGHTS)

    return spoil


def _wider(folder: Path) -> None:
    config = read_json(folder / CONFIG)
    write_json(folder / CONFIG, config | {"width": 96})


BIAS = "action_head.2.bias"
_bad_checkpoint("checkpoint missing", "policy", lambda folder: shutil.rmtree(folder))
_bad_checkpoint("weights missing", WEIGHTS, lambda folder: (folder / WEIGHTS).unlink())
_bad_checkpoint("weights cut off", WEIGHTS, lambda folder: os.truncate(folder / WEIGHTS, 1000))
_bad_checkpoint("weights of the wrong shape", f"{BIAS} has shape (7,), needs (4,)",
                _weights(lambda w: w.update({BIAS: torch.zeros(7)})))  # fmt: skip
_bad_checkpoint("weights without a key", f"missing {BIAS}", _weights(lambda w: w.__delitem__(BIAS)))
_bad_checkpoint("weights that are NaN", f"{BIAS} has values that are not finite",
                _weights(lambda w: w.update({BIAS: torch.full((4,), float("nan"))})))  # fmt: skip
_bad_checkpoint("pickled code for weights", WEIGHTS,
                lambda folder: torch.save(MakesFile(folder.with_name("pickle_was_run")), folder / WEIGHTS))  # fmt: skip
_bad_checkpoint("malformed configuration", CONFIG, lambda folder: (folder / CONFIG).write_text("{"))
_bad_checkpoint("configuration of another size", "needs", _wider)


@fault("checkpoint mended", CHECKPOINT, "the same node configures, without a restart", "lifecycle", recovers=False)
def _(session: Session, report: Report) -> None:
    configured = session.transition(Transition.TRANSITION_CONFIGURE, silent=True)
    report.saw("configured" if configured else f"not configured:\n{session.child.tail(3)}")
    report.must(configured, "configures")
    report.must(session.transition(Transition.TRANSITION_CLEANUP, silent=True), "cleaned up")


@fault(
    "parameter file for another node", START, "does not start: one line names the node and what the file has",
    "lifecycle", recovers=False,
)  # fmt: skip
def _(session: Session, report: Report) -> None:
    file = session.policy_folder.with_name("robot.yaml")
    file.write_text("policy_node:\n  ros__parameters:\n    max_speed_m_s: 0.05\n")
    child, start = session.another("left_policy", {}, (file,)), time.monotonic()
    try:
        while child.process.poll() is None and time.monotonic() - start < READY_S:
            session.graph.spin_once(0.02)
        code, said = child.process.poll(), child.tail()
    finally:
        child.end()
    report.saw(f"exit code {code}: {said}")
    report.must(code == 1, "exit code 1")
    report.must("has nothing for /left_policy; it names /policy_node" in said, "node and file are named")
    report.must("\n" not in said, "one line")


# --- ends


def _into_a_call(session: Session) -> None:
    """The arm moves and a policy call is under way."""
    session.set({"max_observation_age_ms": 5000.0, "fault": "long 40; slow 1"})
    peer = session.peer
    peer.calls.clear()
    # The first may have begun before the fault was set.
    if not session.drive(lambda: len(peer.calls) >= 2 and peer.moving, 15.0):
        raise NodeFailedError(f"the arm does not move: {peer.level}: {peer.status.message}")
    session.drive_for(0.3)


def _one_safe_command(session: Session, report: Report, before: int) -> None:
    last = list(session.peer.commands)[before:]
    zeros = 0
    while zeros < len(last) and not last[-1 - zeros].moves:
        zeros += 1
    report.saw(f"{len(last) - zeros} commands that move, then {zeros} that stops, then none")
    report.must(zeros == 1 and len(last) > 1, "one safe command, nothing after it")


def _signal(number: signal.Signals, setup: str) -> None:
    @fault(
        f"{number.name} in mid-inference",
        END,
        "one safe command, exit code 0 within 2 s",
        setup,
        recovers=False,
        ends=True,
    )
    def inject(session: Session, report: Report) -> None:
        if signal.getsignal(number) == signal.SIG_IGN:
            report.saw("ignored here, and so by the node, as under nohup")
            return
        _into_a_call(session)
        peer, process = session.peer, session.child.process
        before, start = len(peer.commands) - 5, time.monotonic()
        process.send_signal(number)
        while process.poll() is None and time.monotonic() - start < 10.0:
            session.graph.spin_once(0.01)
        took = time.monotonic() - start
        if process.poll() is None:
            report.must(False, "exit")
            return
        report.saw(f"exit code {process.returncode} after {took:.2f} s")
        report.must(process.returncode == 0, "exit code 0")
        report.must(took < BOUNDED_S + BUSY_S, f"within {BOUNDED_S:g} s")
        session.graph.spin_for(0.2)
        _one_safe_command(session, report, before)


@fault("deactivation in mid-inference", END, "bounded, one safe command and silence; moves again after activation")
def _(session: Session, report: Report) -> None:
    _into_a_call(session)
    peer, start = session.peer, time.monotonic()
    before = len(peer.commands) - 5
    report.must(session.transition(Transition.TRANSITION_DEACTIVATE), "deactivated")
    took = time.monotonic() - start
    report.saw(f"deactivated in {took:.2f} s")
    report.must(took < BOUNDED_S + BUSY_S, f"within {BOUNDED_S:g} s")
    session.drive_for(0.3)
    _one_safe_command(session, report, before)
    session.set(DEFAULTS)
    report.must(session.transition(Transition.TRANSITION_ACTIVATE), "activated")


_signal(signal.SIGINT, "depth")
_signal(signal.SIGTERM, "points")
_signal(signal.SIGHUP, "simulated time")
_signal(signal.SIGQUIT, "pose")
