"""The analysis as one page that opens without a network: plots, pictures and the comparison with the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..reports.style import page, picture, section, table
from . import figures
from .pictures import draw_salience
from .recording import Call
from .report import SHARES

PICTURES = 6


def draw_page(numbers: dict[str, Any], calls: Sequence[Call], sets: Sequence[np.ndarray]) -> str:
    """HTML of the whole page.

    Args:
        numbers: of ``report.analyse``, with ``recording`` and ``policy`` for the heading.
        calls: of the recording. sets: (N,) ``SemanticSet`` of each call, for the pictures.
    """
    tokens, words = numbers["tokens"], "; ".join(numbers["instructions"])
    note = (
        f"Instruction: {words}. Policy {numbers['policy']}, unpruned, {numbers['calls']} calls in "
        f"{numbers['episodes']} episode(s), {tokens['image']} image and {tokens['points']} point tokens. Visual tokens "
        f"get {percent(numbers['attention_on_visual_tokens']['mean'])} % of the action tokens' attention."
    )
    parts = [
        *_against_the_paper(numbers),
        *_plots(numbers),
        *([section("Not used", not_used)] if (not_used := _not_used(numbers)) else []),
        section(
            "Pictures",
            "Attention on image patches, attention on point groups (both dark to bright, brightest from four times the "
            "mean token), and semantic sets: green background, red robot, yellow object.",
        ),
        *(_picture(numbers, calls, sets, i) for i in shown(numbers)),
    ]
    return page(f"Salience of {numbers['recording']}", parts, note=note)


def _not_used(numbers: dict[str, Any]) -> str:
    """Pictures of a bag that no call was made for; empty when there were none, and for a simulated episode."""
    found = numbers.get("not_used") or {"reasons": {}}
    return " ".join(f"{n} of {found['of']} pictures: {reason}." for reason, n in found["reasons"].items())


def shown(numbers: dict[str, Any]) -> list[int]:
    """Calls whose pictures are shown: where segments begin, and some in between; at most ``PICTURES``."""
    begins = [segment["first_call"] for segment in numbers["segments"]][:PICTURES]
    even = np.linspace(0, numbers["calls"] - 1, PICTURES).round().astype(int).tolist()
    return sorted([*begins, *[i for i in dict.fromkeys(even) if i not in begins][: PICTURES - len(begins)]])


def percent(share: float | None) -> str:
    """A share as the paper writes it."""
    return "-" if share is None else f"{100 * share:.2f}"


def _plots(numbers: dict[str, Any]) -> list[str]:
    return [
        section(
            "2D and 3D over time",
            "Share of the image tokens in the salience of all visual tokens, call by call. The paper takes the L1 norm "
            "of final-layer features, this page that of the features which enter the last layer. Pruning takes its "
            "mean per token, which a pruned call leaves as it is. A sum also counts how many tokens a modality has. "
            "Dashed lines: segments; solid lines: episodes.",
            figures.shares_over_time(numbers),
        ),
        section(
            "Inside the semantic sets",
            "The mean 2D and the mean 3D token of each set, in multiples of the mean token of the call. The paper "
            "finds 3D above 2D inside robot and object, and below it in the background.",
            figures.sets(numbers),
        ),
        table(
            ("set", "2D tokens per call", "3D tokens per call", "paper", "by norm", "by attention"), set_rows(numbers)
        ),
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
    ]


def _against_the_paper(numbers: dict[str, Any]) -> list[str]:
    paper, measured = share_rows(numbers)
    rows = [[f"paper: {task} (MLA, RLBench, L1 norm)", *cells] for task, *cells in paper]
    rows += [[f"this recording: {words}", *cells] for words, *cells in measured]
    return [
        section(
            "Against the paper",
            "arXiv 2604.09244, of another policy on other tasks: directions can be compared, sizes hardly. That policy "
            "has 256 tokens of each modality, so that means and sums are the same there.",
        ),
        table(("", "2D, %", "3D, %", "standard deviation over calls"), rows, marked=len(SHARES)),
    ]


def share_rows(numbers: dict[str, Any]) -> tuple[list[tuple[str, str, str, str]], list[tuple[str, str, str, str]]]:
    """Name, shares of 2D and 3D and their standard deviation, of the tasks of the paper and of what was measured."""
    paper = [(task, f"{share['image']:.2f}", f"{share['points']:.2f}", "") for task, share in numbers["paper"].items()]
    measured = []
    for name, words in SHARES.items():
        mean, std = (numbers["image_share"][name][key] for key in ("mean", "std"))
        measured.append((words, percent(mean), percent(None if mean is None else 1 - mean), percent(std)))
    return paper, measured


def set_rows(numbers: dict[str, Any]) -> list[tuple[str, ...]]:
    """Of each semantic set: its name, 2D and 3D tokens per call, and which modality is more salient, by the paper, by
    norm and by attention."""
    return [
        (
            name,
            f"{of_set['tokens']['image']:.1f}",
            f"{of_set['tokens']['points']:.1f}",
            paper_order(name),
            order(of_set["norm"]),
            order(of_set["attention"]),
        )
        for name, of_set in numbers["sets"].items()
    ]


def paper_order(name: str) -> str:
    """Which modality the paper finds more salient inside a set."""
    return "2D above 3D" if name == "background" else "3D above 2D"


def order(means: dict[str, float | None]) -> str:
    """Which modality's mean token is more salient; a dash where one has no token."""
    image, points = means["image"], means["points"]
    if image is None or points is None:
        return "-"
    return "3D above 2D" if points > image else "2D above 3D"


def _picture(numbers: dict[str, Any], calls: Sequence[Call], sets: Sequence[np.ndarray], i: int) -> str:
    row = numbers["rows"][i]
    words = f"episode {row['episode'] + 1}, {row['time_s']:.2f} s: {calls[i].instruction}"
    if row["segment_begins"]:
        words += "; a segment begins"
    return picture(draw_salience(calls[i], sets[i]), words)
