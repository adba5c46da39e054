"""The result file of ``mvla bench``, and its plots as one page that needs no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from ...configuration.files import write_json
from ...reports.style import ABOVE, BLUE, ORANGE, page, section, styled
from ..grouping import grouped

# What tells two rows of a file apart; a row that is measured again takes the place of the old one.
IDENTITY = (
    "subject",
    "width",
    "depth",
    "visual_tokens",
    "variant",
    "keep_ratio",
    "precision",
    "device",
    "cpu",
    "threads",
    "omp_wait_policy",
)


def read_rows(path: Path) -> dict[str, Any]:
    """What is in a result file; empty where there is none.

    Raises:
        ValueError: it is something else.
    """
    if not path.exists():
        return {"rows": []}
    try:
        content = json.loads(path.read_text())
        if not isinstance(content["rows"], list):
            raise ValueError("rows is not a list")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a result file of `mvla bench`: {error}") from error
    return content


def add_rows(path: Path, rows: list[dict[str, Any]], command: str) -> None:
    """Join rows to a result file. command: that measured them, kept in each."""
    content = read_rows(path)
    new = {tuple(row[name] for name in IDENTITY): {**row, "command": command} for row in rows}
    old = [row for row in content["rows"] if tuple(row.get(name) for name in IDENTITY) not in new]
    write_json(path, {**content, "rows": [*old, *new.values()]})


def set_entry(path: Path, name: str, entry: dict[str, Any]) -> None:
    """Put something that is not a row beside the rows."""
    write_json(path, {**read_rows(path), name: entry})


def write_page(rows: list[dict[str, Any]], path: Path) -> None:
    """One figure per policy and machine: what each variant takes, and of it the backbone and its floor."""
    names = ("subject", "width", "depth", "visual_tokens", "device", "cpu", "threads")
    groups = grouped(rows, lambda row: tuple(row[name] for name in names))
    sections = []
    for (subject, width, depth, visual, device, cpu, threads), members in groups.items():
        machine = f"{cpu}, {threads} thread{'s' * (threads != 1)}" if device == "cpu" else device
        title = f"{subject}: width {width}, {depth} layers, {visual} visual tokens, on {machine}"
        sections.append(section(title, figure=figure(members)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page("mvla bench", sections, heading="Latency of policy calls"), encoding="utf-8")


def figure(rows: list[dict[str, Any]]) -> go.Figure:
    """Bars of the rows in their order, the first one on top, with speed-ups beside the bars."""
    labels = [f"{r['variant']} {r['keep_ratio']:g}" for r in rows]
    drawn = go.Figure()
    drawn.add_bar(
        y=labels, x=[r["policy_ms_p50"] for r in rows], orientation="h", name="policy call, p50",
        marker_color=BLUE,
        error_x={"type": "data", "symmetric": False, "color": "#999",
                 "array": [r["policy_ms_p99"] - r["policy_ms_p50"] for r in rows], "arrayminus": [0] * len(rows)},
    )  # fmt: skip
    for name, key, symbol in (
        ("of it the backbone", "backbone_ms_p50", "line-ns-open"),
        ("its floor", "floor_ms", "x"),
    ):
        drawn.add_scatter(
            y=labels, x=[r[key] for r in rows], mode="markers", name=name,
            marker={"symbol": symbol, "size": 10, "color": ORANGE, "line": {"width": 3, "color": ORANGE}},
        )  # fmt: skip
    drawn.add_scatter(  # beyond the thin lines
        y=labels, x=[r["policy_ms_p99"] for r in rows], mode="text", textposition="middle right", showlegend=False,
        text=[f" {r['speed_up']:.2f} x, {r['tokens']} tokens" for r in rows], cliponaxis=False, hoverinfo="skip",
    )  # fmt: skip
    drawn.update_yaxes(autorange="reversed")
    drawn.update_xaxes(title="milliseconds; thin lines go to p99", rangemode="tozero")
    margin = {"l": 170, "r": 150, "t": 20, "b": 60}
    return styled(drawn, height=160 + 34 * len(rows), margin=margin, legend=ABOVE, hovermode="closest")
