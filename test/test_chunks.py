"""Which action is due, and how one chunk passes into the next."""

import numpy as np
import pytest

from mvla_pruned_ros.control.chunk_buffer import ChunkBuffer
from mvla_pruned_ros.control.splicer import LEAST_SHARE, Splicer, step_towards
from mvla_pruned_ros.evaluation.splices.measure import IntraChunkStep
from mvla_pruned_ros.types import ActionChunk

MS = 1_000_000


def chunk(stamp_ms: int, first: float = 0.0, steps: int = 4) -> ActionChunk:
    """10 ms a step; action k is first + k on every axis."""
    return ActionChunk(stamp_ms * MS, 0.01, np.repeat(first + np.arange(steps), 4).reshape(steps, 4).astype(np.float32))


def due(buffer: ChunkBuffer, time_ms: float) -> float | None:
    found = buffer.due(round(time_ms * MS))
    return None if found is None else float(found[0].actions[found[1]][0])


def test_action_is_held_over_its_step() -> None:
    buffer = ChunkBuffer()
    assert buffer.put(chunk(100), buffer.generation)
    assert [due(buffer, t) for t in (100, 109.999, 110, 139.999)] == [0, 0, 1, 3]


def test_exhausted_chunk_gives_nothing_instead_of_its_last_action() -> None:
    buffer = ChunkBuffer()
    buffer.put(chunk(100), buffer.generation)
    assert due(buffer, 140) is None
    assert due(buffer, 99.999) is None


def test_late_chunk_joins_where_it_belongs() -> None:
    buffer = ChunkBuffer()
    buffer.put(chunk(100), buffer.generation)
    buffer.put(chunk(110, first=50), buffer.generation)
    # At 135 ms its first two actions are over.
    assert due(buffer, 135) == 52


def test_late_chunk_of_a_robot_at_rest_begins_once_unless_it_is_over() -> None:
    buffer = ChunkBuffer()
    buffer.from_rest(100 * MS, 0)
    buffer.put(chunk(100), buffer.generation)
    for time_ms in (125, 130):
        buffer.from_rest(time_ms * MS, 110 * MS)
        assert [due(buffer, t) for t in (120, 125, 134.999, 135, 155, 165)] == [None, 0, 0, 1, 3, None]
    assert not buffer.put(chunk(100), buffer.generation), "it is the same observation"
    buffer.put(chunk(130, first=50), buffer.generation)
    assert due(buffer, 145) == 51
    buffer.from_rest(170 * MS, 110 * MS)
    assert due(buffer, 170) is None, "over before it begins"


def test_late_chunk_that_was_seen_on_the_way_joins_where_it_belongs_though_the_robot_stands_still_by_now() -> None:
    buffer = ChunkBuffer()
    buffer.put(chunk(100), buffer.generation)
    buffer.from_rest(125 * MS, 111 * MS)  # more than the step of 10 ms later
    assert due(buffer, 125) == 2


def test_older_chunk_never_replaces_a_newer_one() -> None:
    buffer = ChunkBuffer()
    buffer.put(chunk(120, first=50), buffer.generation)
    assert not buffer.put(chunk(100), buffer.generation)
    assert not buffer.put(chunk(120), buffer.generation)
    assert due(buffer, 125) == 50


def test_chunk_stamped_ahead_lets_the_last_one_run_until_it_begins() -> None:
    buffer = ChunkBuffer()
    buffer.put(chunk(100), buffer.generation)
    buffer.put(chunk(120, first=50), buffer.generation)
    assert due(buffer, 115) == 1
    assert due(buffer, 120) == 50


def test_exhausted_newer_chunk_does_not_wake_the_older_one() -> None:
    buffer = ChunkBuffer()
    buffer.put(chunk(100, steps=100), buffer.generation)
    buffer.put(chunk(120, first=50), buffer.generation)
    assert due(buffer, 165) is None


def test_flush_forgets_stamps_too() -> None:
    buffer = ChunkBuffer()
    buffer.put(chunk(1000), buffer.generation)
    buffer.flush()
    assert due(buffer, 1000) is None
    assert buffer.put(chunk(10), buffer.generation)  # time may have gone back
    assert due(buffer, 10) == 0


def test_chunk_of_an_episode_that_is_over_never_comes_back() -> None:
    buffer = ChunkBuffer()
    begun = buffer.generation
    buffer.flush()
    assert not buffer.put(chunk(100), begun) and buffer.chunk is None
    # Whoever was too late to see the flush cannot begin an episode of its own with what it holds.
    assert buffer.flush(begun) == begun != buffer.generation
    assert not buffer.put(chunk(100), begun)
    assert buffer.flush(buffer.generation) == buffer.generation
    assert buffer.put(chunk(100), buffer.generation)
    buffer.clear()  # the same episode: only the chunk is gone
    assert buffer.chunk is None and buffer.put(chunk(90), buffer.generation)


# Where chunks meet


def random_chunks(seed: int, count: int = 6) -> list[ActionChunk]:
    """Chunks of 16 smooth actions, each beginning anywhere: 4 steps of 10 ms apart."""
    rng = np.random.default_rng(seed)
    chunks = []
    for k in range(count):
        steps = rng.normal(0, rng.uniform(0.0, 0.1), (16, 4)) * rng.integers(0, 2, 4)
        actions = rng.uniform(-0.8, 0.8, 4) + np.cumsum(steps, 0)
        chunks.append(ActionChunk(k * 40 * MS, 0.01, actions.astype(np.float32)))
    return chunks


def play(chunks: list[ActionChunk], blend: bool = True) -> tuple[np.ndarray, list[int], list[bool]]:
    """Actions sent at each step, where a new chunk was joined, and whether each was blended."""
    buffer, splicer = ChunkBuffer(), Splicer()
    sent, joined, blended = [], [], []
    for step in range(4 * len(chunks) + 8):
        if step % 4 == 0 and step // 4 < len(chunks):
            buffer.put(chunks[step // 4], buffer.generation)
            joined.append(step)
        due = buffer.due(step * 10 * MS)
        assert due is not None
        action, differs = splicer.follow(*due, blend)
        sent.append(action)
        blended.append(differs)
    return np.array(sent), joined, blended


@pytest.mark.parametrize("seed", range(20))
def test_jump_where_chunks_meet_is_no_larger_than_the_steps_within_them(seed: int) -> None:
    chunks = random_chunks(seed)
    sent, joined, _ = play(chunks)
    for k, step in enumerate(joined[1:], 1):
        own = IntraChunkStep.of(chunks[k].actions) | IntraChunkStep.of(chunks[k - 1].actions)
        way = chunks[k].actions[0, :3] - sent[step - 1, :3]
        jump = sent[step, :3] - sent[step - 1, :3]
        assert np.linalg.norm(jump) <= max(own.length, LEAST_SHARE * np.linalg.norm(way)) + 1e-6


def test_switching_sends_each_action_as_it_is() -> None:
    chunks = random_chunks(3)
    sent, joined, blended = play(chunks, blend=False)
    for k, step in enumerate(joined):
        np.testing.assert_array_equal(sent[step : step + 4], chunks[k].actions[:4])
    assert not any(blended)


def test_chunk_is_followed_as_it_is_once_reached() -> None:
    left = chunk(0, first=0.0)  # steps of 1 on every axis
    right = chunk(20, first=4.5)  # due after 1 was sent: 3.5 away
    splicer = Splicer()
    splicer.follow(left, 0)
    splicer.follow(left, 1)
    first, differs = splicer.follow(right, 0)
    assert first[:3] == pytest.approx([2, 2, 2]) and differs
    assert first[3] == 4.5, "the gripper is not blended"
    flat = ActionChunk(50 * MS, 0.01, np.full((4, 4), 2.5, np.float32))
    assert splicer.follow(flat, 0)[0][:3] == pytest.approx([2.5] * 3)
    assert not splicer.follow(flat, 1)[1]


def test_no_action_within_one_chunk_is_held_back() -> None:
    jumpy = ActionChunk(0, 0.01, np.array([[0, 0, 0, 1], [9, 0, 0, 1], [-9, 5, 0, 1]], np.float32))
    splicer = Splicer()
    for k in (0, 2, 1):  # a tick too late leaves one out
        action, differs = splicer.follow(jumpy, k)
        np.testing.assert_array_equal(action, jumpy.actions[k])
        assert not differs


def test_policy_that_stands_still_is_obeyed_within_its_chunk() -> None:
    """Its own steps are zero: by them alone the arm would go on for ever with what the chunk before wanted."""
    moving = ActionChunk(0, 0.01, np.full((16, 4), 0.8, np.float32))
    still = ActionChunk(10 * MS, 0.01, np.zeros((16, 4), np.float32))
    splicer = Splicer()
    splicer.follow(moving, 0)
    speeds = [float(splicer.follow(still, k)[0][0]) for k in range(16)]
    assert (np.diff(speeds) < 0).all()
    assert speeds[-1] < 0.8 / 2.5


def test_after_a_stop_nothing_is_blended() -> None:
    splicer = Splicer()
    splicer.follow(chunk(0, first=50.0), 0)
    splicer.rest()
    action, differs = splicer.follow(chunk(100), 0)
    assert action.tolist() == [0, 0, 0, 0] and not differs


def test_motion_is_blended_on_the_straight_way() -> None:
    assert step_towards(np.zeros(3), np.array([3.0, 4.0, 0.0]), 1.0) == pytest.approx([0.6, 0.8, 0.0])
    assert step_towards(np.zeros(3), np.array([3.0, 4.0, 0.0]), 5.0).tolist() == [3, 4, 0]
    assert step_towards(np.zeros(3), np.array([0.0, 1.0, 0.0]), 0.0) == pytest.approx([0.0, LEAST_SHARE, 0.0])
