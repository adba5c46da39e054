"""What pruning did, as a bag beside the recorded one: for Foxglove, at the stamps of the frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..bags.writer import BagWriter
from ..policy.mvla.preprocess import view_squares
from ..reports.overlay import KEPT_FIELDS, draw_overlay, kept_points
from .compare import Comparison

TOPICS = {
    "/mvla/overlay": "sensor_msgs/msg/CompressedImage",
    "/mvla/kept_points": "sensor_msgs/msg/PointCloud2",
    "/mvla/pruning": "std_msgs/msg/String",
    "/mvla/keep_ratio": "std_msgs/msg/Float64",
    "/mvla/share_2d": "std_msgs/msg/Float64",
    "/mvla/action_error": "std_msgs/msg/Float64",
}
PICTURE_PX = 288


def overlay_of(one: Comparison) -> np.ndarray:
    """(H, W, 3) uint8 RGB: the squares that the policy saw, side by side, with what stays of them."""
    layout = one.pruned.layout
    squares = view_squares(one.observation.chosen_views(layout.views), layout.grids, PICTURE_PX)
    return draw_overlay(squares, one.pruned.selection, layout, scale=1)


class Annotations(BagWriter):
    """Writes the topics of ``TOPICS``."""

    def __init__(self, folder: Path, base_frame: str, camera_frame: str) -> None:
        """Raises ValueError: ``folder`` exists already."""
        super().__init__(folder, TOPICS)
        self._base, self._camera = base_frame, camera_frame

    def add(self, one: Comparison, row: dict[str, Any]) -> None:
        """One frame. row: its figures."""
        make, stamp = self.messages, one.observation.stamp_ns
        selection, layout = one.pruned.selection, one.pruned.layout
        messages = {
            "/mvla/overlay": make.jpeg(overlay_of(one), stamp, self._camera),
            "/mvla/kept_points": make.cloud(KEPT_FIELDS, kept_points(selection, layout), stamp, self._base),
            "/mvla/pruning": make.text(json.dumps(row)),
            "/mvla/keep_ratio": make.number(selection.keep_ratio),
            "/mvla/share_2d": make.number(one.share_norm),
            "/mvla/action_error": make.number(float(one.errors.mean())),
        }
        for topic, message in messages.items():
            self.write(topic, stamp, message)
