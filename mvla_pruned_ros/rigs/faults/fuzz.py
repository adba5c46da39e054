"""Malformed messages over DDS, thousands of them, to nodes that must neither end nor send what a robot must not get."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from std_msgs.msg import String

from .malformed import STREAMS, malformed
from .run import sessions
from .session import INSTRUCTION, NodeFailedError, Session

FRAMES_PER_S = 100.0
LOOK_EVERY = 500  # messages, then the node has to be well again without help
SETUP_OF = {"points": "points", "image/compressed": "points"}  # the others go to the node that takes depth
RECOVERY_S = 30.0


@dataclass
class FuzzRun:
    """What came of it.

    Attributes:
        sent: malformed messages by stream. alive: no node has ended. beyond: commands not finite or beyond the limits.
        commands: heard meanwhile. recoveries: times a node was given good messages; recovered: times it was well again
        without help, the longest after worst_s. counted: what the nodes' counters say of messages dropped and refused.
        failure: of the last node that ended or did not recover.
    """

    sent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))
    alive: bool = True
    beyond: int = 0
    commands: int = 0
    recoveries: int = 0
    recovered: int = 0
    worst_s: float = 0.0
    counted: Counter[str] = field(default_factory=Counter)
    failure: str = ""

    @property
    def passed(self) -> bool:
        """No node ended, nothing bad was sent, and they always recovered."""
        return self.alive and not self.beyond and self.recovered == self.recoveries > 0


def run_fuzz(
    policy: str, count: int, seed: int, domain_id: int | None, progress: Callable[[int], None] = lambda done: None
) -> FuzzRun:
    """Send malformed messages over all inputs in turn, each in a frame that is good otherwise.

    Raises:
        ValueError: fewer than one message for each input.
    """
    if count < len(STREAMS):
        raise ValueError(f"fuzz needs at least {len(STREAMS)} messages, one for each input, got {count}")
    run, random = FuzzRun(), Random(seed)
    with sessions(policy, domain_id) as started:
        for setup in ("depth", "points"):
            streams = [name for name in STREAMS if SETUP_OF.get(name, "depth") == setup]
            rest = count - sum(run.sent.values())
            share = rest if setup == "points" else round(count * len(streams) / len(STREAMS))
            _fuzz_node(started.start(setup), streams, share, random, run, progress)
    return run


def _fuzz_node(
    session: Session, streams: list[str], share: int, random: Random, run: FuzzRun, progress: Callable[[int], None]
) -> None:
    session.heal()
    peer = session.peer
    peer.on_command = lambda: setattr(run, "commands", run.commands + 1)
    beyond, before = peer.beyond, peer.dropped()
    due = time.monotonic()
    for number in range(share):
        stream = streams[number % len(streams)]
        due = max(due + 1 / FRAMES_PER_S, time.monotonic() - 0.1)
        while (left := due - time.monotonic()) > 0:
            session.graph.spin_once(left)
        if stream == "instruction":
            peer.instruct(malformed(random, stream, String(data=INSTRUCTION)))
        else:
            peer.send(as_they_are=(stream,), **{stream.replace("/", "_"): _stamped(random, session, stream)})
        run.sent[stream] += 1
        progress(sum(run.sent.values()))
        if number % LOOK_EVERY == LOOK_EVERY - 1 or number == share - 1:
            peer.instruct(String(data=INSTRUCTION))
            _look(session, run)
            if not run.alive:
                return
    run.beyond += peer.beyond - beyond
    for cause, value in peer.dropped().items():
        run.counted[cause] += value - before[cause]


def _stamped(random: Random, session: Session, stream: str) -> Any:
    """Malformed, and of now, unless the stamp is what is wrong."""
    peer = session.peer
    good = peer.altered(stream)
    good.header.stamp.sec, good.header.stamp.nanosec = divmod(peer.now_ns(), 1_000_000_000)
    return malformed(random, stream, good)


def _look(session: Session, run: FuzzRun) -> None:
    run.recoveries += 1
    start, peer = time.monotonic(), session.peer
    try:
        session.child.check()
        # As a user would find it: nobody calls ~/reset.
        if not session.drive(lambda: session.healthy, RECOVERY_S):
            raise NodeFailedError(f"{peer.level}: {peer.status.message}")
    except Exception as error:
        run.failure = str(error)
        run.alive = session.child.process.poll() is None
        return
    run.recovered += 1
    run.worst_s = max(run.worst_s, time.monotonic() - start)
