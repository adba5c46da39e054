"""A replay as one page that opens without a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from ..reports.overlay import DOTS, TINTS
from ..reports.style import IMAGE, POINTS, grid, legend, page, picture, section, styled, table
from .compare import DIMENSIONS, Totals

MOST_POINTS = 4000  # of a curve; more are thinned evenly
MOST_BORDERS = 100  # of episodes; more would be all that is seen


def draw_page(
    numbers: dict[str, Any], timings: dict[str, Any], totals: Totals, pictures: list[tuple[str, np.ndarray]], why: str
) -> str:
    """HTML of the whole page.

    Args:
        numbers, timings: as they are written to replay.json and timings.json. pictures: captions and (H, W, 3) uint8.
        why: pictures of the bag were not used, in a sentence; empty when all were.
    """
    curves = {name: _thinned(np.array(values)) for name, values in totals.columns.items()}
    parts = [
        section("Differences of actions"),
        _table(numbers),
        section("2D and 3D over time", "Part of the image tokens in the salience of the unpruned call, means per "
                "token. Solid lines: an episode begins.", _shares(curves)),
        section("What pruning changes", "Pruned against unpruned actions of the same frame, mean over the chunk, in "
                "standard deviations of the unpruned actions of this bag.", _errors(curves, numbers["action_std"])),
        section("Latency", f"Of this machine, {timings['machine']['cpu']}; pruned and unpruned calls took turns. What "
                f"both need first, {timings['prepare_ms']['p50']:.1f} ms to prepare the input, is not in it.",
                _latency(totals, numbers["method"])),
        section("Not used", f"Pictures: {why or 'every one of the bag was used'}. Below, messages and pictures of the "
                "bag that no call was made for, by cause.", _drops(numbers["drops"]))
        if numbers["drops"] else section("Not used", "Every picture of the bag was used."),
        section("What stays"),
        legend([
            ("Dropped patches are dark, kept ones tinted by why they stay, untinted where all stay (the first call of "
             "an episode)", {reason.name.lower(): colour for reason, colour in TINTS.items()}),
            ("Dots are kept point groups by their set, white without sets",
             {group.name.lower(): colour for group, colour in DOTS.items()}),
        ]),
        grid(picture(image, words) for words, image in pictures),
    ]  # fmt: skip
    note = (
        f"Policy {numbers['policy']}, {numbers['method']} at keep ratio {numbers['keep_asked']:g} (measured "
        f"{numbers['keep_ratio']:.3f}), {numbers['frames']} frames in {numbers['episodes']} episode(s)."
    )
    return page(f"Replay of {numbers['bag']}", parts, note=note)


def _table(numbers: dict[str, Any]) -> str:
    rows = [_line("std of the unpruned actions", numbers["action_std"])]
    for key, words in (
        ("pruned_to_unpruned", "pruned to unpruned"),
        ("pruned_to_recorded", "pruned to recorded"),
        ("unpruned_to_recorded", "unpruned to recorded"),
    ):
        if numbers[key]:
            for measure in ("mean_abs", "max_abs", "mean_abs_in_std", "max_abs_in_std"):
                rows.append(_line(f"{words}: {measure.replace('_', ' ')}", numbers[key][measure]))
    return table(["", *numbers["action_std"]], rows)


def _line(words: str, values: dict[str, float | None]) -> list[str]:
    return [words, *("-" if value is None else f"{value:.4g}" for value in values.values())]


def _shares(curves: dict[str, np.ndarray]) -> go.Figure:
    names = {"L1 norm of features": 100 * curves["share_norm"], "attention": 100 * curves["share_attention"]}
    figure = _lines(curves, names)
    figure.update_yaxes(title="share of 2D, % (the rest is 3D)", range=[0, 100])
    return figure


def _errors(curves: dict[str, np.ndarray], std: dict[str, float]) -> go.Figure:
    names = DIMENSIONS if len(std) == len(DIMENSIONS) else tuple(std)
    scales = list(std.values())
    errors = {name: curves[f"error_{i}"] / scales[i] for i, name in enumerate(names) if scales[i]}
    figure = _lines(curves, errors)
    figure.update_yaxes(title="mean error, in std of the action", rangemode="tozero")
    return figure


def _latency(totals: Totals, method: str) -> go.Figure:
    figure = go.Figure()
    for name, words, colour in (("full", "unpruned", IMAGE), ("pruned", method, POINTS)):
        values = np.array(totals.columns[f"{name}_ms"])
        figure.add_histogram(x=values, name=words, opacity=0.6, nbinsx=80, marker_color=colour)
        middle = float(np.median(values))
        figure.add_vline(x=middle, line={"color": colour, "width": 2, "dash": "dash"})
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(title="policy call, ms (dashed: medians)")
    figure.update_yaxes(title="calls")
    return styled(figure, hovermode="closest")


def _drops(drops: dict[str, int]) -> go.Figure:
    figure = go.Figure(go.Bar(x=list(drops.values()), y=list(drops), orientation="h", marker_color=IMAGE))
    figure.update_xaxes(title="messages", rangemode="tozero")
    figure.update_yaxes(automargin=True, autorange="reversed")
    return styled(figure, height=130 + 34 * len(drops), hovermode="closest", margin={"b": 50})


def _lines(curves: dict[str, np.ndarray], named: dict[str, np.ndarray]) -> go.Figure:
    time_s = curves["time_s"] - curves["time_s"][0]
    figure = go.Figure()
    for name, values in named.items():
        figure.add_scatter(x=time_s, y=values, name=name, mode="lines")
    begins = time_s[1:][np.diff(curves["episode"]) > 0]
    for second in begins if len(begins) <= MOST_BORDERS else ():
        figure.add_vline(x=float(second), line={"color": "#bbb", "width": 1})
    figure.update_xaxes(title="seconds")
    return styled(figure)


def _thinned(values: np.ndarray) -> np.ndarray:
    return values[:: max(1, -(-len(values) // MOST_POINTS))]
