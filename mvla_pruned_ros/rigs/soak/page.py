"""A soak run as one page that opens without a network."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from ...reports.style import ABOVE, BLUE, GREY, ORANGE, RED, page, section, styled


def draw_page(report: dict[str, Any]) -> str:
    """HTML of a report as it is written to JSON."""
    numbers, curves, memory = report["figures"], report["curves"], report["curves"]["memory"]
    deadlines, node = numbers["deadlines"], numbers["node"]
    parts = [
        section(
            "Memory of the node",
            f"Median of the last tenth against the first, after {node['warm_up_s']:g} s of warm-up: "
            f"{node['rss_mb']['tenths_percent']:+.2f} % resident, {node['anonymous_mb']['tenths_percent']:+.2f} % "
            "anonymous (what no file and no shared memory stands behind).",
            _lines(memory, "MB", ("rss_mb", "resident", BLUE), ("anonymous_mb", "of it anonymous", ORANGE)),
        ),
        section(
            "Intervals between commands",
            f"As they arrived. {deadlines['share_percent']:.3f} % of the deadlines ({numbers['deadline_ms']:g} ms) "
            f"were met, {deadlines['share_percent_without_machine_stalls']:.3f} % without those that were missed while "
            "a bare process that only wanted to wake up could not run either.",
            _intervals(curves, numbers["deadline_ms"]),
        ),
        section(
            "Stops",
            "Safe commands in the midst of motion, although camera, arm and operator had given no reason.",
            _stops(curves["stops"]),
        ),
        section(
            "Threads and open files of the node",
            figure=_lines(memory, None, ("threads", "threads", BLUE), ("files", "open files", ORANGE)),
        ),
    ]
    about = ", ".join(f"{name} {value}" for name, value in report["settings"].items())
    machine = ", ".join(f"{name} {value}" for name, value in report["machine"].items())
    heading = f"{numbers['seconds'] / 60:.1f} minutes of commands"
    return page("mvla soak", parts, heading=heading, note=f"{about}; {machine}")


def _lines(memory: dict[str, Any], title: str | None, *lines: tuple[str, str, str]) -> go.Figure:
    """lines: key, words and colour of each."""
    drawn = go.Figure()
    for key, words, colour in lines:
        drawn.add_scatter(x=memory["time_s"], y=memory[key], name=words, line={"color": colour})
    drawn.update_yaxes(title=title, rangemode="tozero")
    return _styled(drawn)


def _intervals(curves: dict[str, Any], deadline_ms: float) -> go.Figure:
    intervals, late = curves["intervals"], curves["late_commands"]
    drawn = go.Figure()
    drawn.add_scatter(
        x=intervals["time_s"], y=intervals["largest_ms"], name="largest", line={"color": GREY, "width": 1}
    )
    drawn.add_scatter(x=intervals["time_s"], y=intervals["median_ms"], name="median", line={"color": BLUE})
    for stalled, words, colour in ((True, "late, the machine stood still", ORANGE), (False, "late", RED)):
        chosen = [i for i, flag in enumerate(late["machine_stalled"]) if flag == stalled]
        drawn.add_scatter(
            x=[late["time_s"][i] for i in chosen], y=[late["interval_ms"][i] for i in chosen], mode="markers",
            name=words, marker={"color": colour, "size": 7},
        )  # fmt: skip
    drawn.add_hline(y=deadline_ms, line={"dash": "dash", "color": GREY})
    drawn.update_yaxes(title="ms", rangemode="tozero")
    return _styled(drawn)


def _stops(stops: dict[str, Any]) -> go.Figure:
    causes = [
        "machine stood still" if stalled else "sensor late" if late else "no cause outside the node"
        for stalled, late in zip(stops["machine_stalled"], stops["sensor_late"])
    ]
    drawn = go.Figure()
    for words, colour in (("machine stood still", ORANGE), ("sensor late", GREY), ("no cause outside the node", RED)):
        chosen = [i for i, cause in enumerate(causes) if cause == words]
        drawn.add_scatter(
            x=[stops["time_s"][i] for i in chosen], y=[1e3 * stops["length_s"][i] for i in chosen], mode="markers",
            name=words, marker={"color": colour, "size": 9},
        )  # fmt: skip
    drawn.update_yaxes(title="length, ms", rangemode="tozero")
    return _styled(drawn)


def _styled(drawn: go.Figure) -> go.Figure:
    drawn.update_xaxes(title="seconds")
    margin = {"l": 70, "t": 20, "b": 50}
    return styled(drawn, height=340, margin=margin, legend=ABOVE, hovermode="closest")
