"""The plots of an analysis, drawn from its numbers."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..reports.style import GREEN, IMAGE, POINTS, styled
from .report import SHARES

UNIQUE, OVERLAP = GREEN, "#b8b8b8"
STYLES = dict(zip(SHARES, ((IMAGE, "solid"), (IMAGE, "dot"), (POINTS, "solid"), (POINTS, "dot"))))


def shares_over_time(numbers: dict[str, Any]) -> go.Figure:
    """Share of 2D by each measure, with the borders of segments and episodes."""
    rows = numbers["rows"]
    figure = go.Figure()
    for name, (colour, dash) in STYLES.items():
        figure.add_scatter(
            x=_times(rows), y=_column(rows, name, 100), name=SHARES[name], mode="lines+markers",
            line={"color": colour, "dash": dash}, marker={"size": 4},
        )  # fmt: skip
    even = 100 * numbers["tokens"]["image"] / (numbers["tokens"]["image"] + numbers["tokens"]["points"])
    figure.add_hline(y=50, line={"color": "#999", "width": 1})
    figure.add_hline(
        y=even, line={"color": "#999", "width": 1, "dash": "dot"}, annotation_position="top right",
        annotation_text="a sum, were all tokens equal",
    )  # fmt: skip
    return _timed(figure, numbers, "share of 2D, % (the rest is 3D)", [0, 100])


def sets(numbers: dict[str, Any]) -> go.Figure:
    """Mean 2D and 3D token of each semantic set, by norm and by attention."""
    names = list(numbers["sets"])
    figure = make_subplots(1, 2, subplot_titles=("L1 norm of features", "attention"))
    for column, measure in enumerate(("norm", "attention"), 1):
        for key, label, colour in (("image", "2D", IMAGE), ("points", "3D", POINTS)):
            figure.add_bar(
                x=names, y=[numbers["sets"][name][measure][key] for name in names], name=label, legendgroup=key,
                marker_color=colour, showlegend=column == 1, row=1, col=column,
            )  # fmt: skip
    figure.add_hline(y=1, line={"color": "#999", "width": 1})
    figure.update_yaxes(title="mean token of the call = 1", rangemode="tozero", col=1)
    return styled(figure, margin={"t": 60})  # titles below the buttons


def uniqueness(numbers: dict[str, Any]) -> go.Figure:
    """How 3D attention splits into what 2D tells as well and what it does not."""
    rows = numbers["rows"]
    unique = _column(rows, "unique_attention", 100)
    overlap = [None if y is None else 100 - y for y in unique]
    figure = go.Figure()
    for y, label, colour in ((unique, "unique", UNIQUE), (overlap, "overlaps 2D", OVERLAP)):
        figure.add_scatter(
            x=_times(rows), y=y, name=label, mode="lines", stackgroup="one", line={"color": colour, "width": 0.5}
        )
    figure.add_scatter(
        x=_times(rows), y=_column(rows, "unique_tokens", 100), name="unique share of the tokens", mode="lines",
        line={"color": "#222", "dash": "dot"},
    )  # fmt: skip
    return _timed(figure, numbers, "share of 3D attention, %", [0, 100])


def neighbours(numbers: dict[str, Any]) -> go.Figure:
    """How alike each call is to the one before, and how far stage III's prediction was off."""
    rows = numbers["rows"]
    figure = go.Figure()
    for name, label, colour, dash in (
        ("cosine_to_previous", "cosine to the call before", IMAGE, "solid"),
        ("variation_to_previous", "total variation to the call before", POINTS, "solid"),
        ("prediction_error", "total variation to stage III's prediction", UNIQUE, "dot"),
    ):
        figure.add_scatter(
            x=_times(rows), y=_column(rows, name), name=label, mode="lines", line={"color": colour, "dash": dash}
        )
    figure.add_hline(
        y=numbers["parameters"]["segment_threshold"], line={"color": "#999", "width": 1, "dash": "dash"},
        annotation_text="a prediction worse than this begins a segment",
    )  # fmt: skip
    return _timed(figure, numbers, "attention: cosine, variation", [0, 1.02])


def distance_in_time(numbers: dict[str, Any]) -> go.Figure:
    """Mean cosine of calls against how many calls they are apart."""
    lags = numbers["similarity"]["lags"]
    x = [str(one["calls_apart"]) for one in lags]
    figure = go.Figure()
    figure.add_bar(x=x, y=[one["cosine"] for one in lags], name="cosine", marker_color=IMAGE)
    figure.add_bar(x=x, y=[one["variation"] for one in lags], name="total variation", marker_color=POINTS)
    figure.add_scatter(
        x=x, y=[numbers["similarity"]["cosine_to_uniform"]] * len(x), name="cosine to uniform attention", mode="lines",
        line={"color": "#222", "dash": "dash"},
    )  # fmt: skip
    figure.update_xaxes(title="calls apart", type="category")
    figure.update_yaxes(title="attention: cosine, variation", range=[0, 1.02])
    return styled(figure)


def _times(rows: list[dict[str, Any]]) -> list[float]:
    return [row["time_s"] for row in rows]


def _column(rows: list[dict[str, Any]], name: str, factor: float = 1.0) -> list[float | None]:
    return [None if row[name] is None else factor * row[name] for row in rows]


def _timed(figure: go.Figure, numbers: dict[str, Any], title: str, limits: list[float]) -> go.Figure:
    """The figure over time, with dashed lines where a segment begins and solid ones where an episode does."""
    episode = numbers["segments"][0]["episode"]
    for segment in numbers["segments"][1:]:
        dash = "dash" if segment["episode"] == episode else "solid"
        figure.add_vline(x=segment["start_s"], line={"color": "#555", "width": 1, "dash": dash})
        episode = segment["episode"]
    figure.update_yaxes(title=title, range=limits)
    figure.update_xaxes(title="seconds")
    return styled(figure)
