"""Which action is due, and how far it may go."""

import numpy as np
import pytest

from mvla_pruned_ros.chunks import LOOKAHEAD_S, ChunkBuffer, Limits, limit_command
from mvla_pruned_ros.types import ActionChunk

MS = 1_000_000


def chunk(stamp_ms: int, first: float = 0.0, steps: int = 4) -> ActionChunk:
    """10 ms a step; action k is first + k on every axis."""
    return ActionChunk(stamp_ms * MS, 0.01, np.repeat(first + np.arange(steps), 4).reshape(steps, 4).astype(np.float32))


def due(buffer: ChunkBuffer, time_ms: float) -> float | None:
    action = buffer.action_at(round(time_ms * MS))
    return None if action is None else float(action[0])


def test_action_is_held_over_its_step() -> None:
    buffer = ChunkBuffer()
    assert buffer.put(chunk(100))
    assert [due(buffer, t) for t in (100, 109.999, 110, 139.999)] == [0, 0, 1, 3]


def test_exhausted_chunk_gives_nothing_instead_of_its_last_action() -> None:
    buffer = ChunkBuffer()
    buffer.put(chunk(100))
    assert due(buffer, 140) is None
    assert due(buffer, 99.999) is None
    assert buffer.remaining_s(130 * MS) == pytest.approx(0.01)
    assert buffer.remaining_s(150 * MS) == 0


def test_late_chunk_joins_where_it_belongs() -> None:
    buffer = ChunkBuffer()
    buffer.put(chunk(100))
    buffer.put(chunk(110, first=50))
    # At 135 ms its first two actions are over.
    assert due(buffer, 135) == 52


def test_older_chunk_never_replaces_a_newer_one() -> None:
    buffer = ChunkBuffer()
    buffer.put(chunk(120, first=50))
    assert not buffer.put(chunk(100))
    assert not buffer.put(chunk(120))
    assert due(buffer, 125) == 50


def test_chunk_stamped_ahead_lets_the_last_one_run_until_it_begins() -> None:
    buffer = ChunkBuffer()
    buffer.put(chunk(100))
    buffer.put(chunk(120, first=50))
    assert due(buffer, 115) == 1
    assert due(buffer, 120) == 50


def test_exhausted_newer_chunk_does_not_wake_the_older_one() -> None:
    buffer = ChunkBuffer()
    buffer.put(chunk(100, steps=100))
    buffer.put(chunk(120, first=50))
    assert due(buffer, 165) is None


def test_flush_forgets_stamps_too() -> None:
    buffer = ChunkBuffer()
    buffer.put(chunk(1000))
    buffer.flush()
    assert due(buffer, 1000) is None
    assert buffer.put(chunk(10))  # time may have gone back
    assert due(buffer, 10) == 0


def test_command_within_limits_is_untouched() -> None:
    command, clamped = limit_command(np.array([0.1, -0.1, 0.0, 1.0]), Limits(), np.zeros(3))
    assert command.tolist() == [0.1, -0.1, 0.0, 1.0]
    assert not clamped


def test_speed_and_gripper_are_clamped_and_reported() -> None:
    command, clamped = limit_command(np.array([2.0, -2.0, 0.1, -3.0]), Limits(max_speed_m_s=0.5), None)
    assert command.tolist() == [0.5, -0.5, 0.1, -1.0]
    assert clamped


def test_end_effector_slows_before_the_border_and_may_come_back() -> None:
    limits = Limits(1.0, (-0.1, -0.1, 0.0), (0.1, 0.1, 0.3))
    at = np.array([0.09, 0.2, -0.01])
    command, clamped = limit_command(np.array([0.8, 0.5, -0.5, 0]), limits, at)
    assert command[:3] == pytest.approx([0.01 / LOOKAHEAD_S, 0, 0])
    assert clamped
    command, clamped = limit_command(np.array([-0.8, -0.5, 0.5, 0]), limits, at)
    assert command[:3] == pytest.approx([-0.8, -0.5, 0.5])
    assert not clamped


@pytest.mark.parametrize("bad", [np.array([0, np.nan, 0, 0]), np.array([0, 0, np.inf, 0]), np.zeros(3)])
def test_action_that_is_not_four_finite_numbers_is_refused_whole(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="4 finite numbers"):
        limit_command(bad, Limits(), None)


@pytest.mark.parametrize(
    "values",
    [
        {"max_speed_m_s": 0.0},
        {"max_speed_m_s": float("nan")},
        {"workspace_lower": (0.0, 0.0)},
        {"workspace_upper": (0.0, float("nan"), 1.0)},
        {"workspace_lower": (1.0, 0.0, 0.0), "workspace_upper": (0.5, 1.0, 1.0)},
    ],
)
def test_impossible_limits_are_refused(values: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        Limits(**values)
