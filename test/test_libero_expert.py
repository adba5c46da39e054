"""Where LIBERO's expert grasps and how high it comes, on boxes alone."""

from __future__ import annotations

import numpy as np
import pytest

from mvla_pruned_ros.sim.libero.expert import BESIDE_M, PALM_M, _passes, _shift

HERE = np.zeros(2)


def box(x: tuple[float, float], y: tuple[float, float]) -> np.ndarray:
    """(2, 3) corners of something 10 cm high."""
    return np.array([[x[0], y[0], 0.0], [x[1], y[1], 0.1]])


@pytest.mark.parametrize(
    "most, obstacles, shift",
    [
        (0.03, [], 0.0),
        (-0.01, [], 0.0),  # thinner than a finger: only its middle
        (0.06, [box((-0.01, 0.03), (0.05, 0.1))], -0.048),  # its palm reaches 3.5 cm along x
        (0.03, [box((-0.01, 0.03), (0.05, 0.1))], None),
        (0.06, [box((-0.1, 0.1), (0.11, 0.2))], 0.0),  # beyond the edge of the palm
        (0.06, [box((-0.1, 0.1), (0.05, 0.2))], None),
    ],
)
def test_hand_grasps_where_its_palm_has_room(most: float, obstacles: list[np.ndarray], shift: float | None) -> None:
    found = _shift(HERE, most, obstacles)
    assert found == (None if shift is None else pytest.approx(shift, abs=1e-9))
    if found is not None:
        for corners in obstacles:
            gap = np.abs([found, 0.0] - np.clip([found, 0.0], *corners[:, :2]))
            assert (gap >= PALM_M - 1e-9).any()


def test_what_stands_on_the_way_is_passed_over() -> None:
    end = np.array([0.3, 0.0])
    assert _passes(HERE, end, box((0.1, 0.15), (-0.02, 0.02)))
    assert _passes(HERE, end, box((0.1, 0.15), (0.9 * BESIDE_M[1], 0.2))), "the fingers are as wide as they open"
    assert not _passes(HERE, end, box((0.1, 0.15), (1.1 * BESIDE_M[1], 0.2)))
    assert not _passes(HERE, end, box((0.3 + 1.1 * BESIDE_M[0], 0.5), (-0.1, 0.1))), "behind what is grasped"
