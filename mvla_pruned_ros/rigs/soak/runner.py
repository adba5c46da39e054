"""``mvla soak``: robot, policy node and stall recorder as processes of their own, and the listener in this one."""

from __future__ import annotations

import gc
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rich.console import Console
from rich.table import Table
from std_msgs.msg import String

from ...configuration.files import write_json
from ...messages.decode import stamp_ns
from ...policy.engine.machine import command_line, machine
from ...pruning.base import check_keep_ratio
from ...pruning.methods import check_method
from ...reports.terminal import ProgressBar, table
from ..child_process import ChildFailedError, ChildNode
from ..graph import Graph
from ..synthetic_robot import CLOUD_HZ, EXTRINSICS, HEIGHT, WIDTH
from .deadlines import Stalls, recorded_stalls
from .memory import ProcessRecord
from .page import draw_page
from .report import Heard, SoakRun, curves, figures

READY_TIMEOUT_S = 300.0
SETTLE_S = 5.0  # after the first call; not counted
LONGEST_MEMORY_WARM_UP_S = 60.0
SAMPLE_S = 1.0
# All commands are wanted here, also those that come while this process stands still.
LISTENER_QOS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
# Half a cloud period, and some for delays: every image has a cloud that is near enough.
SYNC_TOLERANCE_MS = 500.0 / CLOUD_HZ + 20.0
COUNTERS = ("commands_", "safe_", "dropped ", "frames_received", "late_shapes", "view_dropped")


@dataclass(frozen=True)
class SoakOptions:
    """What is run for how long.

    Raises:
        ValueError: a number out of its range, an unknown method.
    """

    json: Path
    minutes: float = 30.0
    command_rate_hz: float = 80.0
    keep_ratio: float = 0.5
    method: str = "tri_stage"
    policy: str = "small"
    device: str = "auto"
    instruction: str = "push the puck to the goal"
    view: str = ""  # the policy node's parameter

    def __post_init__(self) -> None:
        check_keep_ratio(self.keep_ratio)
        check_method(self.method)
        if not 0.1 <= self.minutes < math.inf:
            raise ValueError(f"--minutes must be at least 0.1, got {self.minutes}")
        if not 1 <= self.command_rate_hz <= 1000:
            raise ValueError(f"--command-rate must lie in [1, 1000] Hz, got {self.command_rate_hz}")
        if not Path("/proc/self/status").exists():
            raise ValueError("mvla soak reads the memory of the node from /proc, which only Linux has")

    @property
    def page(self) -> Path:
        return self.json.with_suffix(".html")

    def node_parameters(self) -> dict[str, Any]:
        return {
            **EXTRINSICS,
            "policy": self.policy,
            "device": self.device,
            "method": self.method,
            "keep_ratio": float(self.keep_ratio),
            "instruction": self.instruction,
            "view": self.view,
            "command_rate_hz": float(self.command_rate_hz),
            "cloud_source": "points",
            "sync_tolerance_ms": SYNC_TOLERANCE_MS,
        }


class _Listener:
    """Remembers the policy node's commands, calls and diagnostics, and when they came, in little memory."""

    def __init__(self, graph: Graph) -> None:
        self.heard = Heard()
        node = graph.node
        node.create_subscription(TwistStamped, "/policy/command/twist", self._commanded, LISTENER_QOS)
        node.create_subscription(String, "/policy/pruning", self._called, LISTENER_QOS)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 10)

    def _commanded(self, message: TwistStamped) -> None:
        now, linear, heard = time.monotonic(), message.twist.linear, self.heard
        heard.arrived_s.append(now)
        heard.sent_s.append(stamp_ns(message.header) * 1e-9)
        heard.safe.append(linear.x == linear.y == linear.z == 0.0)

    def _called(self, message: String) -> None:
        call = json.loads(message.data)
        self.heard.policy_ms.append(call["policy_ms"])
        self.heard.age_ms.append(call["age_ms"])

    def _diagnosed(self, message: DiagnosticArray) -> None:
        status = message.status[0]
        self.heard.messages[status.message] += 1
        counters = {v.key: int(v.value) for v in status.values if v.key.startswith(COUNTERS) and v.value.isdigit()}
        self.heard.counters[1:] = [counters]  # the first stays, the last is replaced


def run_soak(options: SoakOptions, console: Console | None = None) -> int:
    """Run, print, write; returns the exit code: 1 when a node failed."""
    console = console or Console()
    folder = options.json.parent
    folder.mkdir(parents=True, exist_ok=True)
    stalls, late = folder / "stalls.txt", folder / "late.txt"
    with Graph("listener") as graph, recorded_stalls(stalls):
        node = graph.start("policy node", "node.executable", folder / "executable.log", options.node_parameters())
        robot = {"streams": "clouds", "late_file": str(late)}
        graph.start("robot", "rigs.synthetic_robot", folder / "synthetic_robot.log", robot)
        run = _listen(options, graph, node, console)
    run.stalls, run.late = Stalls.read(stalls), Stalls.read(late)
    numbers = figures(run)
    settings = {
        "policy": options.policy, "method": options.method, "keep_ratio": options.keep_ratio, "device": options.device,
        "view": options.view,
        "image": f"{WIDTH}x{HEIGHT} rgb8 30 Hz", "cloud": f"{WIDTH * HEIGHT} points {CLOUD_HZ:g} Hz",
        "sync_tolerance_ms": SYNC_TOLERANCE_MS,
    }  # fmt: skip
    report = {
        "command": command_line(),
        "machine": {**machine(), "load_average": round(os.getloadavg()[1], 2)},
        "settings": settings,
        "figures": numbers,
        "curves": curves(run),
    }
    write_json(options.json, report)
    options.page.write_text(draw_page(report), encoding="utf-8")
    console.print(_table(numbers))
    console.print(f"wrote {options.json} and {options.page} (open it in a browser)")
    return 0


def _listen(options: SoakOptions, graph: Graph, node: ChildNode, console: Console) -> SoakRun:
    listener = _Listener(graph)
    with console.status("starting policy node and robot ..."):
        if not graph.spin_until(lambda: listener.heard.policy_ms, READY_TIMEOUT_S):
            raise ChildFailedError(f"no policy call in {READY_TIMEOUT_S:g} s; the policy node said:\n{node.tail()}")
        graph.spin_for(SETTLE_S)
    heard = listener.heard = Heard()
    gc.collect()
    gc.freeze()  # this process must not stand still on its own account
    record = ProcessRecord(node.process.pid)
    seconds, begin, before = 60 * options.minutes, time.monotonic(), _processor_times()
    sampled = 0.0
    with ProgressBar("soak", seconds, counted=False, console=console, transient=True, auto_refresh=False) as bar:

        def over() -> bool:
            nonlocal sampled
            now = time.monotonic()
            if now - sampled >= SAMPLE_S:
                sampled = now
                record.sample(now)
                note = f"{len(heard.arrived_s)} commands, {len(heard.policy_ms)} calls, {record.rss_mb[-1]:.0f} MB"
                bar.show(now - begin, note=note)
            return now - begin > seconds

        graph.spin_until(over, math.inf)
    after = _processor_times()
    stolen = None
    if before and after and after[1] > before[1]:
        stolen = round(100 * (after[0] - before[0]) / (after[1] - before[1]), 2)
    warm_up_s = min(LONGEST_MEMORY_WARM_UP_S, 0.2 * seconds)
    return SoakRun(1 / options.command_rate_hz, warm_up_s, heard, record, steal_percent=stolen)


def _processor_times() -> tuple[int, int] | None:
    """Ticks that the host took from this machine, and all ticks, since it was started."""
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    return ticks[7], sum(ticks)


def _table(numbers: dict[str, Any]) -> Table:
    deadlines, stops, node = numbers["deadlines"], numbers["stops"], numbers["node"]
    interval, rss = numbers["interval_ms"], node["rss_mb"]
    rows = {
        f"deadlines met ({numbers['deadline_ms']:g} ms)": f"{deadlines['share_percent']:.3f} %",
        "  without those missed while the machine stood still":
            f"{deadlines['share_percent_without_machine_stalls']:.3f} %",
        "  by the stamps of the commands": f"{numbers['deadlines_by_stamp']['share_percent']:.3f} %",
        "  missed, of them while the machine stood still":
            f"{deadlines['missed']}, {deadlines['missed_while_machine_stalled']}",
        "interval p50, p99, p99.9, max, ms":
            f"{interval['p50']:.1f}, {interval['p99']:.1f}, {interval['p99.9']:.1f}, {interval['max']:.1f}",
        "stops, of them machine, sensors, false":
            f"{stops['all']}, {stops['machine_stalled']}, {stops['sensor_late']}, {stops['false_stops']}",
        "safe commands, of all": f"{stops['safe_commands_percent']:.2f} %",
        "policy calls": str(numbers["policy_calls"]),
        "memory, last tenth against first": f"{rss['tenths_percent']:+.2f} % of {rss['first_tenth']:.0f} MB",
        "memory, straight line over the run": f"{rss['fit_percent']:+.2f} %",
        "threads, open files at the end":
            f"{node['threads']['last_tenth']:.0f}, {node['files']['last_tenth']:.0f}",
        "stalls of the machine, longest":
            f"{numbers['machine_stalls']['count']}, {(numbers['machine_stalls']['ms'] or {'max': 0})['max']:.0f} ms",
        **{name: str(count) for name, count in numbers["counters"].items() if name.startswith(("dropped", "view"))},
    }  # fmt: skip
    return table(f"{numbers['seconds'] / 60:.1f} minutes, {numbers['commands']} commands", ("", ""), rows.items())
