"""Matched messages, live or from a bag, to observations."""

from __future__ import annotations

from operator import is_
from typing import Any

import numpy as np

from ..messages.decode import observation_of, points_of
from ..types import Observation
from .streams import Frames, is_cloud
from .synchronizer import MatchedMessages


class Observer:
    """Makes observations, in the frames it is given.

    A cloud that serves several images is converted once, and so, because they hold the same array, grouped once by the
    policy.
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._clouds: list[Any] = []
        self._points = np.empty((0, 3), np.float32)

    def observe(self, matched: MatchedMessages, instruction: str) -> Observation:
        """Raises ConversionError and TransformError as ``observation_of`` does."""
        messages = matched.messages
        clouds = {name: message for name, message in messages.items() if is_cloud(name)}
        if len(clouds) != len(self._clouds) or not all(map(is_, clouds.values(), self._clouds)):
            self._points = points_of(messages, self._frames)
            # What becomes of a depth image depends on its camera info too, and it is as new as the colour image.
            self._clouds = list(clouds.values()) if all(name.startswith("points") for name in clouds) else []
        return observation_of(matched.stamp_ns, messages, instruction, self._frames, self._points)
