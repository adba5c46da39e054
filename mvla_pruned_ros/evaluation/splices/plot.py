"""Commanded motion over time with the splices marked, as an SVG that any page shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Template

from .measure import SplicedEpisode

WIDTH, PANEL, GAP, LEFT, TOP = 920, 190, 46, 62, 34  # pixels
COLOURS = {"x": "#3266ad", "y": "#d95f02", "z": "#1b9e77"}  # told apart by colour-blind eyes too
_TEMPLATE = Template(Path(__file__).with_name("splices.svg.j2").read_text(), keep_trailing_newline=True)


def splice_svg(episodes: list[SplicedEpisode]) -> str:
    """One panel for each episode, one below the other, with the same scales: three velocities, m/s, over seconds.

    Args:
        episodes: of one task and seed, driven in different modes.
    """
    seconds = max(len(e.sent) * e.step_s for e in episodes)
    speed = max(float(np.abs(e.sent[:, :3]).max()) for e in episodes) or 1.0
    panels = [_panel(episode, TOP + k * (PANEL + GAP), seconds, speed) for k, episode in enumerate(episodes)]
    height = TOP + len(episodes) * (PANEL + GAP)
    return _TEMPLATE.render(width=WIDTH, height=height, left=LEFT, colours=COLOURS, panels=panels)


def _panel(episode: SplicedEpisode, top: int, seconds: float, speed: float) -> dict[str, Any]:
    """What the template shows of one episode; coordinates as text."""

    def x(step: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - 16) * step * episode.step_s / seconds:.1f}"

    def y(value: float, below: int = 0) -> str:
        return f"{top + 22 + (PANEL - 22) * (0.5 - 0.48 * value / speed) + below:.1f}"

    jump, own = episode.largest_jump, episode.own
    axes = ", ".join(f"{a} {j:.3f} / {o:.3f}" for a, j, o in zip(COLOURS, jump.axes, own.axes))
    curves = []
    for axis, colour in enumerate(COLOURS.values()):
        # Each command is held until the next.
        held = (f"{x(i)},{y(v)} {x(i + 1)},{y(v)}" for i, v in enumerate(episode.sent[:, axis]))
        curves.append((colour, " ".join(held)))
    return {
        "top": top,
        "bottom": top + PANEL + 16,
        "title": f"{episode.mode}: {episode.task}, seed {episode.seed}, chunks {episode.delay} steps late. Largest "
        f"jump at a splice / largest own step, m/s: {jump.length:.3f} / {own.length:.3f} ({axes})",
        "highest": y(speed),
        "lowest": y(-speed),
        "splices": [x(step) for step in episode.splices],
        "levels": [(f"{value:.2f}", y(value), y(value, 4)) for value in (-speed, 0.0, speed)],
        "ticks": [
            (f"{tick:g}", x(tick / episode.step_s))
            for tick in np.arange(0, seconds + 1e-9, 0.25 if seconds < 5 else 1.0)
        ],
        "curves": curves,
    }
