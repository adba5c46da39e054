"""Pictures of a selection: dropped patches dark, kept ones tinted by their reason, kept point groups as dots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ..pruning.types import Reason, Selection, SemanticSet, TokenLayout
from ..types import CameraModel

TINTS = {
    Reason.PROTECTED: (255, 170, 0),
    Reason.SALIENT: (0, 200, 0),
    Reason.RETURNED: (0, 120, 255),
    Reason.BACKGROUND: (160, 160, 160),
    Reason.CHOSEN: (200, 0, 200),
}
DOTS = {SemanticSet.BACKGROUND: (120, 220, 120), SemanticSet.ROBOT: (255, 80, 80), SemanticSet.OBJECT: (255, 230, 0)}
DARK, TINT = 0.25, 0.18
KEPT_FIELDS = ("x", "y", "z", "salience", "set")


def kept_points(selection: Selection, layout: TokenLayout) -> np.ndarray:
    """(K, 5) float32 ``KEPT_FIELDS`` of the point tokens that stayed; 0 for what the method does not tell."""
    kept = selection.points_kept
    nothing = np.zeros(len(selection.reason), np.float32)
    salience, sets = (
        (nothing if values is None else values)[selection.num_image :][kept]
        for values in (selection.salience, selection.sets)
    )
    return np.column_stack([layout.point_positions[kept], salience, sets]).astype(np.float32)


def draw_overlay(
    squares: Sequence[tuple[np.ndarray, CameraModel]], selection: Selection, layout: TokenLayout, scale: int = 2
) -> np.ndarray:
    """Paint a selection on the pictures it was made for.

    Args:
        squares: of each view (S, S, 3) uint8 RGB, what the policy saw of it, and the model of its camera.
        selection, layout: of that call. scale: enlargement.

    Returns:
        (S * scale, V * S * scale, 3) uint8 RGB, the views side by side; lower ones with black below them.
    """
    pictures = [
        _draw_view(image, camera, selection.reason[view].reshape(grid), selection, layout, scale)
        for (image, camera), grid, view in zip(squares, layout.grids, layout.view_slices)
    ]
    return side_by_side(pictures)


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(H, W, 3) uint8: pictures in a row; lower ones with black below them."""
    height = max(len(picture) for picture in pictures)
    return np.concatenate([np.pad(p, ((0, height - len(p)), (0, 0), (0, 0))) for p in pictures], 1)


def _draw_view(
    image: np.ndarray, camera: CameraModel, reason: np.ndarray, selection: Selection, layout: TokenLayout, scale: int
) -> np.ndarray:
    """One view. reason: (rows, cols) of its patches."""
    rows, cols = reason.shape
    height, width = image.shape[:2]
    gain = np.where(reason == Reason.DROPPED, DARK, 1.0)
    tint = np.zeros((rows, cols, 3))
    for why, colour in TINTS.items():
        tint[reason == why] = colour
    mix = np.where((tint > 0).any(-1), TINT, 0.0)

    def to_pixels(patches: np.ndarray) -> np.ndarray:
        return np.repeat(np.repeat(patches, height // rows, 0), width // cols, 1)

    out = image * to_pixels(gain)[..., None] * (1 - to_pixels(mix)[..., None]) + to_pixels(tint * mix[..., None])
    picture = Image.fromarray(out.clip(0, 255).astype(np.uint8)).resize(
        (width * scale, height * scale), Image.Resampling.BILINEAR
    )
    if len(layout.point_positions):
        draw = ImageDraw.Draw(picture)
        uv, depth = camera.project(layout.point_positions)
        sets = None if selection.sets is None else selection.sets[selection.num_image :]
        for i in selection.points_kept:
            if depth[i] > 0:
                u, v = uv[i] * scale
                colour = DOTS[SemanticSet(int(sets[i]))] if sets is not None else (255, 255, 255)
                draw.ellipse((u - 3, v - 3, u + 3, v + 3), fill=colour, outline=(0, 0, 0))
    return np.asarray(picture)
