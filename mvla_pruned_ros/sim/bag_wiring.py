"""Bags of `mvla record`: of which simulated robot they are."""

from __future__ import annotations

from pathlib import Path

from ..bags.reader import Bag
from ..bags.setup import TOPICS
from .wiring import Wiring, all_wirings


def recorded_wiring(folder: Path) -> Wiring:
    """That of the robot whose camera a bag is of, by the frame of its first camera info; else Meta-World's.

    Raises:
        ValueError: no readable bag there.
    """
    known = {wiring.cameras[0].frame: wiring for wiring in all_wirings()}
    metaworld = all_wirings()[0]
    with Bag(folder) as bag:
        for message in bag.messages({TOPICS["camera_info"]}):
            try:
                return known.get(bag.decode(message).header.frame_id, metaworld)
            except (ValueError, AttributeError):  # who reads the bag says so
                break
    return metaworld
