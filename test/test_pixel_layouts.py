"""Pixels of all colour encodings become RGB in a fraction of the time of numpy's indexing."""

from __future__ import annotations

import timeit
from types import SimpleNamespace

import numpy as np
import pytest

from mvla_pruned_ros.messages.decode import image_to_rgb
from mvla_pruned_ros.messages.layouts import LAYOUTS

HEIGHT, WIDTH = 720, 1280


@pytest.mark.parametrize("encoding", ["bgr8", "mono8", "bgra8", "rgba8"])
def test_picture_is_put_in_order_plane_by_plane(encoding: str) -> None:
    """0.8 ms on a machine where indexing takes 4 to 7 ms; compared, because machines differ and are busy."""
    _, channels, order = LAYOUTS[encoding]
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, channels), np.uint8)
    message = SimpleNamespace(
        encoding=encoding, height=HEIGHT, width=WIDTH, is_bigendian=0, step=WIDTH * channels, data=pixels.ravel()
    )
    np.testing.assert_array_equal(image_to_rgb(message), pixels[..., order])
    plane_by_plane = min(timeit.repeat(lambda: image_to_rgb(message), number=3, repeat=7))
    indexed = min(timeit.repeat(lambda: np.ascontiguousarray(pixels[..., order]), number=3, repeat=7))
    assert plane_by_plane < indexed / 2
