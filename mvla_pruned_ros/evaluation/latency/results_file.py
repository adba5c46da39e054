"""The result file of ``mvla bench``, and its plots as one page that needs no network."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

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
    _write(path, {**content, "rows": [*old, *new.values()]})


def set_entry(path: Path, name: str, entry: dict[str, Any]) -> None:
    """Put something that is not a row beside the rows."""
    _write(path, {**read_rows(path), name: entry})


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


def write_page(rows: list[dict[str, Any]], path: Path) -> None:
    """One figure per policy and machine: what each variant takes, and of it the backbone and its floor."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("subject", "width", "depth", "visual_tokens", "device", "cpu", "threads"))
        groups.setdefault(key, []).append(row)
    sections = []
    for i, ((subject, width, depth, visual, device, cpu, threads), members) in enumerate(groups.items()):
        where = f"{cpu}, {threads} thread{'s' * (threads != 1)}" if device == "cpu" else device
        title = f"{subject}: width {width}, {depth} layers, {visual} visual tokens, on {where}"
        plot = figure(members).to_html(full_html=False, include_plotlyjs=i == 0, config={"displaylogo": False})
        sections.append(f"<h2>{escape(title)}</h2>{plot}")
    style = "body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1080px;margin:2em auto;padding:0 1em}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>mvla bench</title><style>{style}</style>"
        f"</head><body><h1>Latency of policy calls</h1>{''.join(sections)}</body></html>\n"
    )


def figure(rows: list[dict[str, Any]]) -> go.Figure:
    """Bars of the rows in their order, the first one on top, with speed-ups beside the bars."""
    labels = [f"{r['variant']} {r['keep_ratio']:g}" for r in rows]
    drawn = go.Figure()
    drawn.add_bar(
        y=labels, x=[r["policy_ms_p50"] for r in rows], orientation="h", name="policy call, p50",
        marker_color="#3266ad",
        error_x={"type": "data", "symmetric": False, "color": "#999",
                 "array": [r["policy_ms_p99"] - r["policy_ms_p50"] for r in rows], "arrayminus": [0] * len(rows)},
    )  # fmt: skip
    for name, key, symbol in (
        ("of it the backbone", "backbone_ms_p50", "line-ns-open"),
        ("its floor", "floor_ms", "x"),
    ):
        drawn.add_scatter(
            y=labels, x=[r[key] for r in rows], mode="markers", name=name,
            marker={"symbol": symbol, "size": 10, "color": "#d95f02", "line": {"width": 3, "color": "#d95f02"}},
        )  # fmt: skip
    drawn.add_scatter(  # beyond the thin lines
        y=labels, x=[r["policy_ms_p99"] for r in rows], mode="text", textposition="middle right", showlegend=False,
        text=[f" {r['speed_up']:.2f} x, {r['tokens']} tokens" for r in rows], cliponaxis=False, hoverinfo="skip",
    )  # fmt: skip
    drawn.update_yaxes(autorange="reversed")
    drawn.update_xaxes(title="milliseconds; thin lines go to p99", rangemode="tozero")
    return drawn.update_layout(
        template="plotly_white", height=160 + 34 * len(rows), margin={"l": 170, "r": 150, "t": 20, "b": 60},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )  # fmt: skip
