"""The analysis as one page that opens without a network: plots, pictures and the comparison with the paper."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from . import figures
from .pictures import as_data_url, draw_salience
from .recording import Call
from .report import SHARES

PICTURES = 6
# Nothing may be fetched, whatever a library thinks of.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1080px; margin: 2em auto; padding: 0 1em }
h1 { margin-bottom: 0 } h2 { margin: 2em 0 0.2em } p { max-width: 46em } img { width: 100%; display: block }
table { border-collapse: collapse; margin: 1em 0 } figure { margin: 1.2em 0 } figcaption, .note { color: #555 }
th, td { padding: 0.25em 0.9em; border-bottom: 1px solid #ddd; text-align: right }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 0 1em }
.key { white-space: nowrap }
.chip { display: inline-block; width: 0.8em; height: 0.8em; margin: 0 0.3em 0 0.6em; border: 1px solid #888 }
th:first-child, td:first-child { text-align: left } .ours td { background: #f2f6fb }
"""


def draw_page(numbers: dict[str, Any], calls: Sequence[Call], sets: Sequence[np.ndarray]) -> str:
    """HTML of the whole page.

    Args:
        numbers: of ``report.analyse``, with ``recording`` and ``policy`` for the heading.
        calls: of the recording. sets: (N,) ``SemanticSet`` of each call, for the pictures.
    """
    sections = [
        section(
            "2D and 3D over time",
            "Share of the image tokens in the salience of all visual tokens, call by call. The paper takes the "
            "final-layer L1 norm. Pruning takes its mean per token, which a pruned call leaves as it is. A sum also "
            "counts how many tokens a modality has. Dashed lines: segments; solid lines: episodes.",
            figures.shares_over_time(numbers),
        ),
        section(
            "Inside the semantic sets",
            "The mean 2D and the mean 3D token of each set, in multiples of the mean token of the call. The paper "
            "finds 3D above 2D inside robot and object, and below it in the background.",
            figures.sets(numbers),
        )
        + _sets_table(numbers),
        section(
            "What 3D adds",
            "Attention on a point token overlaps 2D when its centre projects on a patch of at least mean attention; "
            "otherwise (a patch hidden, off the image, or one that nobody looks at) it is unique. Where the unique "
            "share of attention lies below that of tokens, the policy looks at the same places in both modalities.",
            figures.uniqueness(numbers),
        ),
        section(
            "Neighbouring calls",
            "Attention of each call against that of the call before, carried to the new tokens in space, and against "
            "what stage III predicted from all calls before. Alike neighbours are what makes pruning ahead possible.",
            figures.neighbours(numbers),
        ),
        section(
            "Calls farther apart",
            "The same for calls that are some calls apart, mean over the recording. Attention that did not change "
            "would be alike at every distance.",
            figures.distance_in_time(numbers),
        ),
        "<h2>Pictures</h2><p>Attention on image patches, attention on point groups (both dark to bright, brightest "
        "from four times the mean token), and semantic sets: green background, red robot, yellow object.</p>",
        *(_picture(numbers, calls, sets, i) for i in shown(numbers)),
    ]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>Salience of {escape(numbers['recording'])}</title>\n<style>{STYLE}</style>\n"
        f"<script>{get_plotlyjs()}</script></head>\n<body>\n{_heading(numbers)}\n{_paper_table(numbers)}\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def shown(numbers: dict[str, Any]) -> list[int]:
    """Calls whose pictures are shown: where segments begin, and some in between; at most ``PICTURES``."""
    begins = [segment["first_call"] for segment in numbers["segments"]][:PICTURES]
    even = np.linspace(0, numbers["calls"] - 1, PICTURES).round().astype(int).tolist()
    return sorted([*begins, *[i for i in dict.fromkeys(even) if i not in begins][: PICTURES - len(begins)]])


def percent(share: float | None) -> str:
    """A share as the paper writes it."""
    return "-" if share is None else f"{100 * share:.2f}"


def _heading(numbers: dict[str, Any]) -> str:
    tokens = numbers["tokens"]
    words = "; ".join(escape(one) for one in numbers["instructions"])
    return (
        f"<h1>Salience of {escape(numbers['recording'])}</h1>"
        f"<p class='note'>Instruction: {words}. Policy {escape(numbers['policy'])}, unpruned, {numbers['calls']} calls "
        f"in {numbers['episodes']} episode(s), {tokens['image']} image and {tokens['points']} point tokens. Visual "
        f"tokens get {percent(numbers['attention_on_visual_tokens']['mean'])} % of the action tokens' attention.</p>"
    )


def _paper_table(numbers: dict[str, Any]) -> str:
    head = "<tr><th></th><th>2D, %</th><th>3D, %</th><th>standard deviation over calls</th></tr>"
    lines = [
        f"<tr><td>paper: {escape(task)} (MLA, RLBench, L1 norm)</td><td>{one['image']:.2f}</td>"
        f"<td>{one['points']:.2f}</td><td></td></tr>"
        for task, one in numbers["paper"].items()
    ]
    for name, words in SHARES.items():
        share = numbers["image_share"][name]
        rest = None if share["mean"] is None else 1 - share["mean"]
        lines.append(
            f"<tr class='ours'><td>this recording: {words}</td><td>{percent(share['mean'])}</td>"
            f"<td>{percent(rest)}</td><td>{percent(share['std'])}</td></tr>"
        )
    return (
        "<h2>Against the paper</h2><p>arXiv 2604.09244, of another policy on other tasks: directions can be compared, "
        "sizes hardly. That policy has 256 tokens of each modality, so that means and sums are the same there.</p>"
        f"<table>{head}{''.join(lines)}</table>"
    )


def _sets_table(numbers: dict[str, Any]) -> str:
    head = (
        "<tr><th>set</th><th>2D tokens per call</th><th>3D tokens per call</th><th>paper</th><th>by norm</th>"
        "<th>by attention</th></tr>"
    )
    lines = [
        f"<tr><td>{escape(name)}</td><td>{one['tokens']['image']:.1f}</td><td>{one['tokens']['points']:.1f}</td>"
        f"<td>{paper_order(name)}</td><td>{order(one['norm'])}</td><td>{order(one['attention'])}</td></tr>"
        for name, one in numbers["sets"].items()
    ]
    return f"<table>{head}{''.join(lines)}</table>"


def paper_order(name: str) -> str:
    """Which modality the paper finds more salient inside a set."""
    return "2D above 3D" if name == "background" else "3D above 2D"


def order(means: dict[str, float | None]) -> str:
    """Which modality's mean token is more salient; a dash where one has no token."""
    image, points = means["image"], means["points"]
    if image is None or points is None:
        return "-"
    return "3D above 2D" if points > image else "2D above 3D"


def section(title: str, text: str, figure: go.Figure) -> str:
    """A heading, a paragraph and a plot, as HTML of a page that has plotly.js in its head."""
    plot = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
    )  # plotly.js is in the head once
    return f"<h2>{escape(title)}</h2><p>{escape(text)}</p>{plot}"


def _picture(numbers: dict[str, Any], calls: Sequence[Call], sets: Sequence[np.ndarray], i: int) -> str:
    row = numbers["rows"][i]
    words = f"episode {row['episode'] + 1}, {row['time_s']:.2f} s: {calls[i].instruction}"
    if row["segment_begins"]:
        words += "; a segment begins"
    url = as_data_url(draw_salience(calls[i], sets[i]))
    return f"<figure><img src='{url}' alt='{escape(words)}'><figcaption>{escape(words)}</figcaption></figure>"
