"""A replay as one page that opens without a network."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from ..analysis.page import POLICY, STYLE, section
from ..analysis.pictures import as_data_url
from .compare import DIMENSIONS, Totals

MOST_POINTS = 4000  # of a curve; more are thinned evenly
CAPTION = "kept patches tinted by why they stay, dropped ones dark; dots are kept point groups"


def draw_page(
    numbers: dict[str, Any], timings: dict[str, Any], totals: Totals, pictures: list[tuple[str, np.ndarray]]
) -> str:
    """HTML of the whole page.

    Args:
        numbers, timings: as they are written to replay.json and timings.json. pictures: captions and (H, W, 3) uint8.
    """
    curves = {name: _thinned(np.array(values)) for name, values in totals.columns.items()}
    time_s = curves["time_s"] - curves["time_s"][0]
    shares = _lines(time_s, {"final-layer L1 norm": curves["share_norm"], "attention": curves["share_attention"]}, 100)
    shares.update_yaxes(title="share of 2D, % (the rest is 3D)", range=[0, 100])
    std = list(numbers["action_std"].values())
    errors = {}
    for i, scale in enumerate(std):
        name = DIMENSIONS[i] if len(std) == len(DIMENSIONS) else str(i)
        if scale:
            errors[name] = curves[f"error_{i}"] / scale
    error = _lines(time_s, errors)
    error.update_yaxes(title="mean error of a chunk, in std of the action", rangemode="tozero")
    latency = go.Figure()
    for name in ("full", "pruned"):
        words = {"full": "unpruned", "pruned": numbers["method"]}[name]
        latency.add_histogram(x=np.array(totals.columns[f"{name}_ms"]), name=words, opacity=0.6, nbinsx=80)
    latency.update_layout(barmode="overlay")
    latency.update_xaxes(title="policy call, ms")
    drops = go.Figure(go.Bar(x=list(numbers["drops"].values()), y=list(numbers["drops"]), orientation="h"))
    figures = "".join(
        f"<figure><img src='{as_data_url(picture)}' alt='{escape(words)}'><figcaption>{escape(words)}</figcaption>"
        "</figure>"
        for words, picture in pictures
    )
    parts = [
        section("2D and 3D over time", "Part of the image tokens in the salience of the unpruned call, means per "
                "token.", shares),
        section("What pruning changes", "Pruned against unpruned actions of the same frame, mean over the chunk, in "
                "standard deviations of the unpruned actions of this bag.", error),
        section("Latency", f"Of this machine, {timings['machine']['cpu']}; pruned and unpruned calls took turns.",
                latency),
        section("Not used", "Messages and pictures of the bag that no call was made for, by cause."
                if numbers["drops"] else "Every picture of the bag was used.", drops),
        f"<h2>What stays</h2><p>{CAPTION}</p>{figures}",
    ]  # fmt: skip
    title = escape(f"Replay of {numbers['bag']}")
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n<script>{get_plotlyjs()}</script></head>\n<body>\n"
        f"<h1>{title}</h1><p class='note'>Policy {escape(numbers['policy'])}, {escape(numbers['method'])} at keep "
        f"ratio {numbers['keep_asked']:g} (measured {numbers['keep_ratio']:.3f}), {numbers['frames']} frames in "
        f"{numbers['episodes']} episode(s).</p>{_table(numbers)}" + "\n".join(parts) + "\n</body></html>\n"
    )


def _table(numbers: dict[str, Any]) -> str:
    names = list(numbers["action_std"])
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = [_line("std of the unpruned actions", numbers["action_std"])]
    for key, words in (
        ("pruned_to_unpruned", "pruned to unpruned"),
        ("pruned_to_recorded", "pruned to recorded"),
        ("unpruned_to_recorded", "unpruned to recorded"),
    ):
        if numbers[key]:
            for measure in ("mean_abs", "max_abs", "mean_abs_in_std", "max_abs_in_std"):
                lines.append(_line(f"{words}: {measure.replace('_', ' ')}", numbers[key][measure]))
    return f"<h2>Differences of actions</h2><table><tr><th></th>{head}</tr>{''.join(lines)}</table>"


def _line(words: str, values: dict[str, float | None]) -> str:
    cells = "".join(f"<td>{'-' if value is None else f'{value:.4g}'}</td>" for value in values.values())
    return f"<tr><td>{escape(words)}</td>{cells}</tr>"


def _lines(time_s: np.ndarray, curves: dict[str, np.ndarray], factor: float = 1.0) -> go.Figure:
    figure = go.Figure()
    for name, values in curves.items():
        figure.add_scatter(x=time_s, y=factor * values, name=name, mode="lines")
    figure.update_xaxes(title="seconds")
    return figure.update_layout(template="plotly_white", height=400, legend={"orientation": "h", "y": -0.2})


def _thinned(values: np.ndarray) -> np.ndarray:
    return values[:: max(1, -(-len(values) // MOST_POINTS))]
