"""The GIF of ``mvla demo``: what the policy was shown and what was kept of it, all views side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw
from sensor_msgs.msg import Image

from ...messages.decode import image_to_rgb, stamp_ns
from ...sim.tasks import Task
from .. import qos
from ..listener import kept_of, tokens_of
from .session import DemoSession, EpisodeLog, Way

HEIGHT_PX = 384
PERIOD_S = 0.05  # simulated time between pictures, at least
FRAME_MS = 100  # a picture is shown for so long, or for as long as lies between it and the one before
HOLD_FRAMES = 8  # the last picture of an episode stays for so many


@dataclass(frozen=True)
class Frame:
    """(H, W, 3) uint8 pixels, the line below them, and for how many milliseconds they are shown."""

    pixels: np.ndarray
    caption: str
    ms: int


class OverlayFilm:
    """Collects ``/policy/overlay`` while it listens; the policy node draws overlays only then."""

    def __init__(self) -> None:
        self._session: Any = None
        self._subscription: Any = None
        self._frames: list[Frame] = []
        self._last_s = 0.0
        self._first = 0
        self._caption = ""

    def start(self, session: DemoSession, task: Task, way: Way) -> None:
        """Film the episode that is about to begin."""
        self._session, self._caption = session, f"{session.options.policy_name}: {task.instruction}, {way.name}"
        self._first, self._last_s = len(self._frames), 0.0
        self._subscription = session.node.create_subscription(Image, "/policy/overlay", self._take, qos.SENSOR)
        # Filming from the first frame on needs the publisher to know of us before the episode begins.
        session.spin_until(lambda: session.node.count_publishers("/policy/overlay") > 0, 10.0, "the overlay topic")

    def stop(self, log: EpisodeLog) -> None:
        """End of the episode: its last picture stays longer, with the outcome."""
        self._session.node.destroy_subscription(self._subscription)
        if len(self._frames) > self._first:
            outcome = f"{self._caption}: {'success' if log.success else 'no success'} after {log.steps} steps"
            self._frames.append(Frame(self._frames[-1].pixels, outcome, HOLD_FRAMES * FRAME_MS))

    def _take(self, message: Image) -> None:
        stamp = stamp_ns(message.header) * 1e-9
        passed = stamp - self._last_s
        if passed < PERIOD_S or message.encoding != "rgb8":
            return
        self._last_s = stamp
        pixels = image_to_rgb(message)
        pruning = self._session.pruning
        kept = f"  {kept_of(pruning)} of {tokens_of(pruning)} tokens" if pruning else ""
        first = len(self._frames) == self._first
        ms = FRAME_MS if first else max(FRAME_MS, round(1e3 * passed))
        self._frames.append(Frame(pixels.copy(), self._caption + kept, ms))

    def save(self, path: Path) -> bool:
        """Write the GIF; False when nothing was filmed."""
        pictures = []
        for frame in self._frames:
            scale = HEIGHT_PX / len(frame.pixels)
            height, width = (round(n * scale) for n in frame.pixels.shape[:2])
            canvas = Picture.new("RGB", (width, height + 18), "black")
            canvas.paste(Picture.fromarray(frame.pixels).resize((width, height), Picture.Resampling.BILINEAR))
            ImageDraw.Draw(canvas).text((6, height + 3), frame.caption, fill="white")
            pictures.append(canvas.quantize(64, dither=Picture.Dither.NONE))
        if pictures:
            ms = [frame.ms for frame in self._frames]
            pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=ms, loop=0)
        return bool(pictures)
