"""``mvla record``: the demo's topics in a rosbag2."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ...reports.terminal import ProgressBar, table
from ...sim.wiring import Wiring, common_wiring
from ..bag_recorder import BagRecorder, Topic
from ..graph import Graph
from .session import DemoOptions, DemoSession

OTHERS = {
    "/clock": Topic("rosgraph_msgs/msg/Clock"),
    "/simulator/success": Topic("std_msgs/msg/Bool", latched=True),
    "/policy/instruction": Topic("std_msgs/msg/String"),
    "/policy/command/twist": Topic("geometry_msgs/msg/TwistStamped"),
    "/policy/command/gripper": Topic("std_msgs/msg/Float64"),
    "/policy/pruning": Topic("std_msgs/msg/String"),
    "/policy/call": Topic("std_msgs/msg/String"),
    "/diagnostics": Topic("diagnostic_msgs/msg/DiagnosticArray"),
}


def topics_of(wiring: Wiring) -> dict[str, Topic]:
    """What is recorded of a robot and the policy node: all but the cloud, which depth holds already."""
    sensors = {f"/simulator/{name}": Topic(kind, reliable=False) for name, kind in wiring.topics().items()}
    del sensors["/simulator/points"]
    return sensors | OTHERS


def run_record(options: DemoOptions, seconds: float, console: Console | None = None) -> int:
    """Record episodes of the demo into the folder ``options.out``, which must not exist; returns the exit code.

    Args:
        seconds: wall time to record from the first episode on; they follow each other, the last one is cut off.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    console = console or Console()
    bag = options.out
    if bag.exists():
        raise ValueError(f"{bag} exists already: choose another folder or remove it")
    topics = topics_of(common_wiring([task.name for task in options.tasks]))
    # A bag folder holds nothing else, so the logs of the nodes lie beside it.
    options = replace(options, out=Path(f"{bag}_logs"))
    with Graph("demo", options.domain_id) as graph:
        session = DemoSession(options, graph)
        with console.status("starting simulator and policy node ..."):
            session.wait_until_ready()
        bag.parent.mkdir(parents=True, exist_ok=True)
        with BagRecorder(session.node, bag, topics) as recorder:
            session.spin_until(lambda: session.status["image_subscribers"] > 1, 10.0, "the recorder's subscriptions")
            _record(session, recorder, seconds, console)
        counts = dict(recorder.counts)
        frames_sent = session.status["frames_sent"]
    rows = [(topic, str(count)) for topic, count in counts.items()]
    console.print(table(f"{bag}: {seconds:g} s, {frames_sent} frames were sent", ("topic", "messages"), rows))
    return 0


def _record(session: DemoSession, recorder: BagRecorder, seconds: float, console: Console) -> None:
    start: float | None = None  # loading the first scene is not recorded time
    with ProgressBar("recording", seconds, counted=False, console=console, transient=True) as bar:

        def over() -> bool:
            passed = 0.0 if start is None else time.monotonic() - start
            bar.show(passed, note=f"{sum(recorder.counts.values())} messages")
            return passed >= seconds

        for number in itertools.count():
            for task in session.options.tasks:
                if over():
                    return
                session.begin_episode(task, session.options.seed + number)
                start = start or time.monotonic()
                session.spin_until(lambda: over() or session.status["state"] == "waiting", 600.0, "the episode's end")
