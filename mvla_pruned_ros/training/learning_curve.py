"""The loss over the steps of a training, as a page."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import plotly.graph_objects as go

from ..reports.style import page, section, styled

LOG = "log.csv"
BAGS = "bags.json"  # what was learned from, where that was bags


def write_learning_curve(folder: Path) -> None:
    """Draw ``log.csv`` of a training folder into ``learning_curve.html``, a page that needs no network.

    What of the bags was not used stands below.
    """
    with (folder / LOG).open(newline="") as file:
        rows = list(csv.DictReader(file))
    step, loss, seconds = ([float(row[name]) for row in rows] for name in ("step", "loss", "seconds"))
    figure = go.Figure(
        go.Scatter(x=step, y=loss, customdata=seconds, hovertemplate="step %{x}: %{y:.4f}, %{customdata:.0f} s")
    )
    styled(figure, xaxis_title="step", yaxis_title="loss", yaxis_type="log", hovermode="closest")
    parts = [section("Loss", "Mean of the steps since the point before.", figure)]
    reports = json.loads((folder / BAGS).read_text()) if (folder / BAGS).is_file() else {}
    for bag, report in reports.items():
        not_used = report["not_used"]
        reasons = (f"{n} of {not_used['of']} pictures not used: {why}." for why, n in not_used["reasons"].items())
        parts.append(section(bag, f"{report['frames']} frames, {report['actions']}. {' '.join(reasons)}"))
    (folder / "learning_curve.html").write_text(page(f"Training of {folder.name}", parts), encoding="utf-8")
