"""The loss over the steps of a training, as a page."""

from __future__ import annotations

import csv
from pathlib import Path

import plotly.graph_objects as go

from ..reports.style import page, section, styled

LOG = "log.csv"


def write_learning_curve(folder: Path) -> None:
    """Draw ``log.csv`` of a training folder into ``learning_curve.html``, a page that needs no network."""
    with (folder / LOG).open(newline="") as file:
        rows = list(csv.DictReader(file))
    step, loss, seconds = ([float(row[name]) for row in rows] for name in ("step", "loss", "seconds"))
    figure = go.Figure(
        go.Scatter(x=step, y=loss, customdata=seconds, hovertemplate="step %{x}: %{y:.4f}, %{customdata:.0f} s")
    )
    styled(figure, xaxis_title="step", yaxis_title="loss", yaxis_type="log", hovermode="closest")
    parts = [section("Loss", "Mean of the steps since the point before.", figure)]
    (folder / "learning_curve.html").write_text(page(f"Training of {folder.name}", parts), encoding="utf-8")
