"""The whole matrix against live policy nodes: each fault in turn, each before a node that is well."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..child_process import ChildFailedError, end_all
from ..demo_session import Graph

# Each module adds its faults to FAULTS; the order is that of the table.
from . import sensor_faults  # noqa: F401  # isort: skip
from . import message_faults  # noqa: F401  # isort: skip
from . import time_faults  # noqa: F401  # isort: skip
from . import policy_faults  # noqa: F401  # isort: skip
from . import parameter_faults  # noqa: F401  # isort: skip
from . import link_faults  # noqa: F401  # isort: skip
from . import start_and_end_faults  # noqa: F401  # isort: skip
from .matrix import FAULTS, Fault, Report
from .session import SETUPS, NodeFailedError, Session


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
    """Faults whose name holds one of these; all when none is given, those that end their node last.

    Raises:
        ValueError: a name that no fault has.
    """
    for name in names:
        if not any(name.lower() in fault.name.lower() for fault in FAULTS):
            raise ValueError(f"no fault {name!r}: choose from {', '.join(f.name for f in FAULTS)}")
    faults = [f for f in FAULTS if not names or any(name.lower() in f.name.lower() for name in names)]
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
    faults = chosen(names)
    with sessions(policy, list(dict.fromkeys(f.setup for f in faults)), domain_id) as started:
        rows = []
        for fault in faults:
            on_start(fault.name)
            if started.is_gone(fault.setup):
                started.start(fault.setup)
            rows.append(_inject(fault, started.running[fault.setup]))
            on_row(rows[-1])
            if fault is faults[-1] or faults[faults.index(fault) + 1].setup != fault.setup:
                started.running[fault.setup].end()  # an idle node takes time from the next
        return rows


class Sessions:
    """Nodes by setup. Attributes: running."""

    def __init__(self, graph: Graph, folder: Path, policy: str) -> None:
        self._graph, self._folder, self._policy = graph, folder, policy
        self.running: dict[str, Session] = {}
        self._count = 0

    def start(self, setup: str, module: str | None = None) -> Session:
        """Start a node without waiting for it; one of the same setup is ended first."""
        if setup in self.running:
            self.running.pop(setup).end()
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        self.running[setup] = Session(self._graph, folder, setup, self._policy, module)
        return self.running[setup]

    def is_gone(self, setup: str) -> bool:
        """Whether its node has ended."""
        return self.running[setup].child.process.poll() is not None


@contextlib.contextmanager
def sessions(policy: str, setups: Sequence[str], domain_id: int | None) -> Iterator[Sessions]:
    """Nodes of these setups, started all at once: most of a start is loading libraries."""
    with tempfile.TemporaryDirectory() as folder, Graph("faults", domain_id) as graph:
        started = Sessions(graph, Path(folder), policy)
        try:
            for setup in setups:
                started.start(setup)
            yield started
        finally:
            end_all([session.child for session in started.running.values()])


def _inject(fault: Fault, session: Session) -> Row:
    report, start = Report(), time.monotonic()
    peer = session.peer
    try:
        session.heal()
        beyond = peer.beyond
        fault.inject(session, report)
        report.must(peer.beyond == beyond, f"commands finite and within the limits: {peer.beyond - beyond} are not")
        if not fault.ends:
            session.child.check()
    except (NodeFailedError, ChildFailedError) as error:
        report.must(False, str(error))
    observed, passed = report.text, not report.missing
    return Row(fault.name, fault.row, fault.expected, observed, passed, round(time.monotonic() - start, 2))
