"""The picture by which people judge extrinsics: points, workspace and end effector on the image.

Beside it, the patches and points that the policy keeps.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from PIL import Image, ImageDraw

from ..policy.mvla.preprocess import view_squares
from ..reports.overlay import draw_overlay, side_by_side
from ..types import CameraModel, Observation
from .policy_checks import Trial
from .scene_checks import Box

INSIDE, OUTSIDE = (255, 230, 0), (90, 140, 255)  # points in the workspace, and others
BOX, HAND = (0, 220, 0), (255, 40, 40)
DOT_PX, MOST_POINTS, HEIGHT = 2, 4000, 480
DOWN_EDGE = 20  # pieces of an edge of the box: those behind the camera are left out


def draw_scene(observation: Observation, box: Box | None, trial: Trial) -> np.ndarray:
    """(H, W, 3) uint8 RGB: the first view with points, box and end effector, beside it what the policy keeps of all.

    Args:
        box: corners of the workspace, metres, base frame. trial: calls on this observation.
    """
    view = observation.views[0]
    scale = HEIGHT / view.camera.height
    size = (round(view.camera.width * scale), HEIGHT)
    camera = view.camera.resized(*size)
    picture = Image.fromarray(view.image).resize(size, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    points = observation.points[:: max(1, len(observation.points) // MOST_POINTS)]
    lower, upper = box or ((-np.inf,) * 3, (np.inf,) * 3)
    inside = np.all((points >= np.array(lower)) & (points <= np.array(upper)), 1)
    for (u, v), is_inside in zip(*_visible(points, camera, inside)):
        draw.rectangle((u, v, u + DOT_PX - 1, v + DOT_PX - 1), fill=INSIDE if is_inside else OUTSIDE)
    if box is not None:
        _draw_box(draw, camera, box)
    for u, v in _visible(np.asarray(observation.state.position, float)[None], camera, np.ones(1, bool))[0]:
        draw.line((u - 14, v, u + 14, v), fill=HAND, width=3)
        draw.line((u, v - 14, u, v + 14), fill=HAND, width=3)
    pictures = [np.asarray(picture)]
    if trial.last is not None and all(min(grid, default=0) > 0 for grid in trial.last.layout.grids):
        layout = trial.last.layout
        squares = view_squares(observation.chosen_views(layout.views), layout.grids, HEIGHT)
        pictures.append(draw_overlay(squares, trial.last.selection, layout, scale=1))
    return side_by_side(pictures)


def _visible(points: np.ndarray, camera: CameraModel, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M, 2) pixels of the points in the picture, and their marks."""
    uv, depth = camera.project(points)
    seen = (depth > 0) & (uv >= 0).all(1) & (uv[:, 0] < camera.width) & (uv[:, 1] < camera.height)
    return uv[seen], marks[seen]


def _draw_box(draw: ImageDraw.ImageDraw, camera: CameraModel, box: Box) -> None:
    corners = np.array(list(product(*zip(*box))))
    for first in range(8):
        for axis in (1, 2, 4):
            if first & axis:
                continue
            ends = corners[first], corners[first | axis]
            edge = np.linspace(*ends, DOWN_EDGE)
            uv, depth = camera.project(edge)
            for start, end, ahead in zip(uv, uv[1:], (depth[:-1] > 0) & (depth[1:] > 0)):
                if ahead:
                    draw.line((*start, *end), fill=BOX, width=2)
