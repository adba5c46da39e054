"""Salience painted on the picture that the policy saw."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from ..pruning.types import SemanticSet
from ..reports.overlay import DOTS
from ..types import CameraModel
from .recording import Call
from .salience import in_multiples_of_mean

BRIGHTEST = 4.0  # multiples of the mean token that are painted brightest
# Dark to bright; readable in grey as well.
COLOURS = np.array([(20, 10, 60), (120, 30, 110), (220, 70, 70), (250, 160, 40), (255, 245, 130)], np.float64)
DIM, MIX = 0.35, 0.6


def draw_salience(call: Call, sets: np.ndarray) -> np.ndarray:
    """Three panels side by side: attention on patches, attention on point groups, semantic sets of both.

    Args:
        call: with its pictures of S x S pixels. sets: (N,) of ``SemanticSet``.

    Returns:
        (V S, 3 S, 3) uint8 RGB, a row for each view.
    """
    rows = [_draw_view(call, sets, view) for view in range(len(call.cameras))]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])


def _draw_view(call: Call, sets: np.ndarray, view: int) -> np.ndarray:
    layout, picture, camera = call.layout, call.pictures[view], call.cameras[view]
    grid, own, n2 = layout.grids[view], layout.view_slices[view], layout.num_image
    edge, points = picture.shape[0] // grid[0], layout.point_positions
    level = in_multiples_of_mean(call.evidence.attention)
    patches = (1 - MIX) * picture + MIX * _to_pixels(_colours(level[own]), grid, edge)
    set_colours = np.array([DOTS[SemanticSet(int(s))] for s in sets], np.float64)
    located = np.isfinite(layout.image_positions[own]).all(1)
    mix = _to_pixels(np.where(located, 0.4, 0.0)[:, None], grid, edge)
    parts = (1 - mix) * picture + mix * _to_pixels(set_colours[own], grid, edge)
    panels = [
        patches,
        _with_dots(DIM * picture, camera, points, _colours(level[n2:])),
        _with_dots(parts, camera, points, set_colours[n2:]),
    ]
    return np.concatenate(panels, 1).clip(0, 255).astype(np.uint8)


def _colours(level: np.ndarray) -> np.ndarray:
    """(M,) multiples of the mean as (M, 3) float RGB."""
    place = np.clip(level / BRIGHTEST, 0, 1) * (len(COLOURS) - 1)
    return np.stack([np.interp(place, np.arange(len(COLOURS)), channel) for channel in COLOURS.T], 1)


def _to_pixels(patches: np.ndarray, grid: tuple[int, int], edge: int) -> np.ndarray:
    """(N2, C) values of patches as (rows * edge, cols * edge, C) pixels."""
    return patches.reshape(*grid, -1).repeat(edge, 0).repeat(edge, 1)


def _with_dots(pixels: np.ndarray, camera: CameraModel, points: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Point groups as dots where the camera sees their centres, (N3, 3). colours: (N3, 3)."""
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    uv, depth = camera.project(points)
    for (u, v), distance, colour in zip(uv, depth, colours.astype(int)):
        if distance > 0:
            draw.ellipse((u - 4, v - 4, u + 4, v + 4), fill=tuple(colour), outline=(0, 0, 0))
    return np.asarray(picture)
