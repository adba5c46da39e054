"""The whole matrix against live policy nodes: each fault in turn, each before a node that is well."""

from __future__ import annotations

import contextlib
import importlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..child_process import ChildFailedError
from ..graph import Graph
from .matrix import FAULTS, Fault, Report, recovers
from .session import SETUPS, Session

# Each module adds its faults to FAULTS; the order is that of the table.
# "tf missing or late" is not among them: tf2_ros comes with a ROS installation only, and test_policy_node_sensors.py
# tests it at the node.
for kind in ("sensor", "message", "time", "policy", "parameter", "motion", "link", "start_and_end"):
    importlib.import_module(f"{__package__}.{kind}_faults")


@dataclass(frozen=True)
class Row:
    """What came of one fault. Attributes: seconds: that it took, waiting for a healthy node included."""

    fault: str
    matrix_row: str
    expected: str
    observed: str
    passed: bool
    seconds: float


def chosen(names: Sequence[str]) -> list[Fault]:
    """Faults of these names, or whose name holds one of them; all when none is given, those that end their node last.

    Raises:
        ValueError: a name that no fault has.
    """
    faults = [] if names else list(FAULTS)
    for name in names:
        found = [f for f in FAULTS if name == f.name] or [f for f in FAULTS if name.lower() in f.name.lower()]
        if not found:
            raise ValueError(f"no fault {name!r}: choose from {', '.join(f.name for f in FAULTS)}")
        faults += [f for f in found if f not in faults]
    order = list(SETUPS)
    return sorted(faults, key=lambda f: (order.index(f.setup), f.ends))


def run_matrix(
    policy: str,
    names: Sequence[str] = (),
    domain_id: int | None = None,
    on_start: Callable[[str], None] = lambda name: None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Inject faults.

    Args:
        policy: folder, or name of a shipped policy. names: see ``chosen``. domain_id: None: one of this run's own.
        on_start: called with the name of each fault before it. on_row: with what came of it.

    Raises:
        ValueError: no such policy or fault.
    """
    rows = []
    with sessions(policy, domain_id) as started:
        for fault in chosen(names):
            on_start(fault.name)
            rows.append(_inject(fault, started.session(fault.setup)))
            on_row(rows[-1])
    return rows


class Sessions:
    """One node at a time: others would take time from it, be they idle."""

    def __init__(self, graph: Graph, folder: Path, policy: str) -> None:
        self._graph, self._folder, self._policy = graph, folder, policy
        self._session: Session | None = None
        self._count = 0

    def session(self, setup: str) -> Session:
        """A running node of this setup: the one that runs, or a new one."""
        session = self._session
        if session is None or session.setup != setup or session.child.process.poll() is not None:
            return self.start(setup)
        return session

    def start(self, setup: str) -> Session:
        """Start a node without waiting for it, after the end of the one before."""
        self.end()
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        self._session = Session(self._graph, folder, setup, self._policy)
        return self._session

    def end(self) -> None:
        """End the node that runs."""
        if self._session is not None:
            self._session.end()
            self._session = None


@contextlib.contextmanager
def sessions(policy: str, domain_id: int | None) -> Iterator[Sessions]:
    """Nodes in a graph of their own. Args: policy: folder or shipped name. domain_id: None: one of this run's own."""
    with tempfile.TemporaryDirectory() as folder, Graph("faults", domain_id) as graph:
        started = Sessions(graph, Path(folder), policy)
        try:
            yield started
        finally:
            started.end()


def _inject(fault: Fault, session: Session) -> Row:
    report, start = Report(), time.monotonic()
    peer = session.peer
    try:
        session.heal()
        beyond = peer.beyond
        fault.inject(session, report)
        if fault.recovers:
            recovers(session, report)
        report.must(peer.beyond == beyond, f"commands finite and within the limits: {peer.beyond - beyond} are not")
        if not fault.ends:
            session.child.check()
    except ChildFailedError as error:
        report.must(False, str(error))
    observed, passed = report.text, not report.missing
    return Row(fault.name, fault.row, fault.expected, observed, passed, round(time.monotonic() - start, 2))
