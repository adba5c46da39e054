"""What the HTML pages of all reports share: one page that opens without a network, its parts, and how plots look.

Parts are HTML that is safe already; every other text is escaped, also where it is put beside parts.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from plotly.offline import get_plotlyjs

BLUE, ORANGE, GREEN = "#3266ad", "#d95f02", "#1b9e77"  # colour-blind eyes tell them apart too
GREY, RED = "#999999", "#c1272d"
IMAGE, POINTS = BLUE, ORANGE  # 2D and 3D

BELOW = {"orientation": "h", "y": -0.2, "yanchor": "top"}  # places of a legend
ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}

_TEMPLATE = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    keep_trailing_newline=True,
).get_template("page.html.j2")


def page(title: str, parts: Iterable[str], *, heading: str = "", note: str = "") -> str:
    """A whole page.

    Args:
        title: of the window. parts: of the other functions here, in their order. heading: empty for the title.
        note: a line in grey below the heading.
    """
    plotly_js = get_plotlyjs()
    return _html("page", title=title, heading=heading or title, note=note, parts=list(parts), plotly_js=plotly_js)


def section(title: str, text: str = "", figure: go.Figure | None = None) -> str:
    """A heading, a paragraph and a plot, each of the last two only where there is one."""
    config = {"displaylogo": False, "responsive": True}
    # plotly.js is in the head of the page, once.
    plot = "" if figure is None else figure.to_html(full_html=False, include_plotlyjs=False, config=config)
    return _html("section", title=title, text=text, plot=plot)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], marked: int = 0) -> str:
    """A table. marked: so many of the last rows are set off by a tint."""
    return _html("table", head=head, rows=list(rows), marked=marked)


def picture(image: np.ndarray, words: str) -> str:
    """(H, W, 3) uint8 RGB with its caption."""
    jpeg = io.BytesIO()
    Image.fromarray(image).save(jpeg, "JPEG", quality=85)
    url = "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode()
    return _html("figure", url=url, words=words)


def grid(parts: Iterable[str]) -> str:
    """Parts side by side, as many as there is room for."""
    return _html("grid", parts=list(parts))


def legend(sentences: Iterable[tuple[str, Mapping[str, tuple[int, int, int]]]]) -> str:
    """A paragraph of words, each followed by named colours (RGB of 0 to 255)."""
    return _html("legend", sentences=list(sentences))


def styled(figure: go.Figure, **layout: Any) -> go.Figure:
    """Give a plot the look of all. layout: what is different in this one, as ``update_layout`` takes it."""
    figure.update_layout(
        template="plotly_white", height=400, margin={"l": 60, "r": 20, "t": 30, "b": 90}, legend=BELOW,
        hovermode="x unified",
    )  # fmt: skip
    return figure.update_layout(**layout)


def _html(macro: str, **values: Any) -> str:
    """HTML of a macro of the template: a string that is marked as safe, so that it is not escaped again."""
    html: str = getattr(_TEMPLATE.module, macro)(**values)
    return html
