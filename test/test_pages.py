"""What all pages share: nothing is fetched, words come out as they went in, and no word becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np

from mvla_pruned_ros.reports.style import grid, legend, page, picture, section, table

HOSTILE = "<script>alert('ä')</script> & \"抓取\" </title>"


class Reader(HTMLParser):
    """Tags, texts and captions of a page, its scripts apart."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.captions: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.captions += [value or "" for name, value in attrs if name == "alt"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def test_words_of_every_part_are_escaped() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    parts = [
        section(HOSTILE, HOSTILE),
        table([HOSTILE], [[HOSTILE]]),
        grid([picture(image, HOSTILE)]),
        legend([("colours", {HOSTILE: (1, 2, 3)})]),
        HOSTILE,  # no part, but a word
    ]
    found = read(page(HOSTILE, parts, note=HOSTILE))
    assert found.tags.count("script") == 1, "plotly.js alone"
    # Title, heading, note, section and its paragraph, two cells, caption, colour, word.
    assert sum(text.strip() == HOSTILE for text in found.texts) == 10
    assert found.captions == [HOSTILE]


def test_parts_are_not_escaped_twice() -> None:
    found = read(page("a page", [grid([picture(np.zeros((4, 4, 3), np.uint8), "one")]), section("a", "b")]))
    assert {"div", "figure", "img", "h2", "p"} <= set(found.tags)
    assert not any("<" in text for text in found.texts if "plotly" not in text)


def test_last_rows_of_a_table_are_marked() -> None:
    text = table(["a"], [["1"], ["2"], ["3"]], marked=2)
    assert text.split("<td>1")[0].count("ours") == 0 and text.count("<tr class='ours'>") == 2
