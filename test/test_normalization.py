"""Physical actions to the network's range and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mvla_pruned_ros.policy.mvla.normalization import ActionNormalization

UNIT = ActionNormalization(np.array([0.0, -2.0], np.float32), np.array([1.0, 2.0], np.float32))


def test_quantiles_map_to_plus_and_minus_one() -> None:
    np.testing.assert_allclose(
        UNIT.normalize(np.array([[0.0, 2.0], [1.0, -2.0], [0.5, 1.0]])), [[-1, 1], [1, -1], [0, 0.5]], atol=1e-6
    )


def test_denormalising_inverts_normalising_inside_the_quantiles() -> None:
    actions = np.random.default_rng(0).uniform([0, -2], [1, 2], (5, 16, 2)).astype(np.float32)
    np.testing.assert_allclose(UNIT.denormalize(UNIT.normalize(actions)), actions, atol=1e-6)
    assert UNIT.denormalize(UNIT.normalize(actions)).dtype == np.float32


def test_nothing_leaves_the_quantiles() -> None:
    np.testing.assert_array_equal(UNIT.normalize(np.array([[9.0, -9.0]])), [[1, -1]])
    np.testing.assert_allclose(UNIT.denormalize(np.array([[9.0, -9.0]])), [[1.0, -2.0]])


def test_nan_is_not_turned_into_a_number() -> None:
    assert np.isnan(UNIT.denormalize(np.array([np.nan, 0.0]))[0])


def test_action_that_never_varied_comes_back_as_its_value() -> None:
    constant = ActionNormalization.of(np.full((10, 3, 1), 0.25))
    np.testing.assert_allclose(constant.denormalize(constant.normalize(np.array([[0.25]]))), [[0.25]])


def test_quantiles_are_taken_over_everything_but_the_last_axis() -> None:
    values = np.stack([np.arange(101.0), -np.arange(101.0)], -1)
    normalization = ActionNormalization.of(values.reshape(101, 1, 2))
    np.testing.assert_allclose(normalization.q01, [1.0, -99.0], rtol=1e-6)
    np.testing.assert_allclose(normalization.q99, [99.0, -1.0], rtol=1e-6)


@pytest.mark.parametrize(
    "q01, q99", [([0.0], [1.0, 2.0]), ([2.0], [1.0]), ([np.nan], [1.0]), ([0.0], [np.inf]), ([[0.0]], [[1.0]])]
)
def test_impossible_quantiles_are_refused(q01: list[float], q99: list[float]) -> None:
    with pytest.raises(ValueError, match="q01 and q99 must be vectors|must be finite and ordered"):
        ActionNormalization(np.array(q01, np.float32), np.array(q99, np.float32))


def test_file_is_read_back(tmp_path: Path) -> None:
    UNIT.save(tmp_path / "n.json")
    again = ActionNormalization.load(tmp_path / "n.json")
    np.testing.assert_array_equal(again.q01, UNIT.q01)
    np.testing.assert_array_equal(again.q99, UNIT.q99)


@pytest.mark.parametrize("content", [{}, {"action": {"q01": [0]}}, {"action": {"q01": [0], "q99": ["x"]}}, [], None])
def test_malformed_file_is_refused_by_name(tmp_path: Path, content: object) -> None:
    (tmp_path / "n.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="n.json is not a normalisation file"):
        ActionNormalization.load(tmp_path / "n.json")
