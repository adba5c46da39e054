"""Commanded motion over time with the splices marked, as an SVG that any page shows."""

from __future__ import annotations

from html import escape

import numpy as np

from .measure import SplicedEpisode

WIDTH, PANEL, GAP, LEFT, TOP = 920, 190, 46, 62, 34  # pixels
AXES = ("x", "y", "z")
COLOURS = ("#3266ad", "#d95f02", "#1b9e77")  # told apart by colour-blind eyes too
STYLE = "font: 12px sans-serif; fill: #222"


def splice_svg(episodes: list[SplicedEpisode]) -> str:
    """One panel for each episode, one below the other, with the same scales: three velocities, m/s, over seconds.

    Args:
        episodes: of one task and seed, driven in different modes.
    """
    seconds = max(len(e.sent) * e.step_s for e in episodes)
    speed = max(float(np.abs(e.sent[:, :3]).max()) for e in episodes) or 1.0
    height = TOP + len(episodes) * (PANEL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'style="{STYLE}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *(
            f'<text x="{LEFT + 90 * k}" y="18" fill="{colour}" font-weight="bold">velocity {axis}</text>'
            for k, (axis, colour) in enumerate(zip(AXES, COLOURS))
        ),
        f'<text x="{LEFT + 290}" y="18" fill="#888">| a new chunk is joined</text>',
    ]
    for k, episode in enumerate(episodes):
        parts += _panel(episode, TOP + k * (PANEL + GAP), seconds, speed)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(episode: SplicedEpisode, top: int, seconds: float, speed: float) -> list[str]:
    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - 16) * step * episode.step_s / seconds

    def y(value: float) -> float:
        return top + 22 + (PANEL - 22) * (0.5 - 0.48 * value / speed)

    jump, own = episode.largest_jump, episode.own
    axes = ", ".join(f"{a} {j:.3f} / {o:.3f}" for a, j, o in zip(AXES, jump.axes, own.axes))
    title = (
        f"{episode.mode}: {episode.task}, seed {episode.seed}, chunks {episode.delay} steps late. Largest jump at a "
        f"splice / largest own step, m/s: {jump.length:.3f} / {own.length:.3f} ({axes})"
    )
    parts = [f'<text x="{LEFT}" y="{top + 12}">{escape(title)}</text>']
    parts += [
        f'<line x1="{x(s):.1f}" x2="{x(s):.1f}" y1="{y(speed):.1f}" y2="{y(-speed):.1f}" stroke="#ccc"/>'
        for s in episode.splices
    ]
    for value in (-speed, 0.0, speed):
        parts += [
            f'<line x1="{LEFT}" x2="{WIDTH - 16}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#999"/>',
            f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>',
        ]
    for tick in np.arange(0, seconds + 1e-9, 0.25):
        at = x(tick / episode.step_s)
        parts.append(f'<text x="{at:.1f}" y="{top + PANEL + 16}" text-anchor="middle">{tick:g} s</text>')
    for axis, colour in enumerate(COLOURS):
        points = []
        for step, value in enumerate(episode.sent[:, axis]):  # each command is held until the next
            points += [f"{x(step):.1f},{y(value):.1f}", f"{x(step + 1):.1f},{y(value):.1f}"]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return parts
