"""How an end effector went: figures of positions whose derivatives are known."""

from __future__ import annotations

import numpy as np
import pytest

from mvla_pruned_ros.evaluation.success.trajectory import mean_jerk, path_length


def test_path_is_the_way_and_not_the_distance() -> None:
    there_and_back = np.array([[0, 0, 0], [0.3, 0.4, 0], [0, 0, 0], [0, 0, 0.1]], np.float32)
    assert path_length(there_and_back) == pytest.approx(1.1)
    assert path_length(there_and_back[:1]) == 0.0


def test_jerk_is_the_third_derivative_in_length() -> None:
    t = np.arange(0, 1, 0.05)[:, None]
    cubic = np.hstack([t**3, 2 * t**3, t**2 + t])  # third derivatives 6, 12 and 0
    assert mean_jerk(cubic, 0.05) == pytest.approx(np.hypot(6, 12))
    assert mean_jerk(cubic[:4], 0.05) == pytest.approx(np.hypot(6, 12))
    assert mean_jerk(cubic[:3], 0.05) is None


def test_rounding_of_float32_adds_less_than_the_docstring_says() -> None:
    rng = np.random.default_rng(0)
    still = (np.array([0.1, 0.6, 0.2]) + rng.uniform(-1e-8, 1e-8, (400, 3))).astype(np.float32)
    jerk = mean_jerk(still, 0.0125)
    assert jerk is not None and jerk < 1.0
