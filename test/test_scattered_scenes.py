"""Scattered scenes of LIBERO's tasks, on positions alone: nothing stands in another's way, relations are kept.

``data/libero_spatial_places.json`` has where things stand, metres, in three initial states of each task of
libero_spatial.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mvla_pruned_ros.sim.libero import scenes
from mvla_pruned_ros.sim.libero.scenes import RADII, exchanged_landmarks, exchanged_slots, kind_of

PLACES = {
    int(task): [{name: np.array(place) for name, place in state.items()} for state in states]
    for task, states in json.loads((Path(__file__).parent / "data/libero_spatial_places.json").read_text()).items()
}
SEEDS = 200
BETWEEN = 0  # the task whose first bowl stands between plate and ramekin
EXACT_M = 1e-9


def scattered(task: int, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Where things stood, (3,) each, and where they stand, (2,)."""
    before = PLACES[task][seed % len(PLACES[task])]
    return before, exchanged_landmarks(before, task == BETWEEN, np.random.default_rng(seed))


def distance(places: dict[str, np.ndarray], a: str, b: str) -> float:
    return float(np.linalg.norm(places[a][:2] - places[b][:2]))


@pytest.mark.parametrize("task", sorted(PLACES))
def test_nothing_overlaps_and_bowls_keep_their_relation(task: int) -> None:
    for seed in range(SEEDS):
        before, after = scattered(task, seed)
        marks = [name for name in before if kind_of(name) in scenes.LANDMARKS]
        table = min(place[2] for place in before.values())
        on = set()
        for number, bowl in enumerate(name for name in before if name not in marks):
            nearest = min(marks, key=lambda mark: distance(before, mark, bowl))
            away = distance(before, nearest, bowl)
            if task == BETWEEN and number == 0:
                plate, ramekin = (next(m for m in marks if kind_of(m) == kind) for kind in scenes.LANDMARKS[:2])
                sides = [distance(after, bowl, mark) for mark in (plate, ramekin)]
                assert sides[0] == pytest.approx(sides[1]) and sum(sides) == pytest.approx(
                    distance(after, plate, ramekin)
                )
            elif away < scenes.ON_M:
                assert distance(after, nearest, bowl) < EXACT_M
                on.add(frozenset((nearest, bowl)))
            elif away < scenes.NEXT_M:
                assert away - EXACT_M < distance(after, nearest, bowl) < scenes.NEXT_M
            elif before[bowl][2] > table + scenes.FURNITURE_M:
                np.testing.assert_array_equal(after[bowl], before[bowl][:2])
            else:
                assert np.abs(after[bowl] - before[bowl][:2]).max() <= scenes.JITTER_M
        bowls = [name for name in before if name not in marks]
        alone = [bowl for bowl in bowls if min(distance(before, mark, bowl) for mark in marks) >= scenes.NEXT_M]
        furniture = [bowl for bowl in alone if before[bowl][2] > table + scenes.FURNITURE_M]
        assert all(distance(after, bowl, "plate_1") > scenes.DRAWER_M for bowl in furniture)
        rims = [after[bowl] + [0, RADII["akita_black_bowl"]] for bowl in bowls if bowl not in furniture]
        assert all(np.linalg.norm(rim - scenes.BASE) < scenes.REACH_M for rim in rims)
        finger = after[bowls[0]] + [0, RADII["akita_black_bowl"] + scenes.FINGER_M[1]]
        for high in (name for name in before if kind_of(name) in scenes.HIGH):
            if distance(after, high, bowls[0]) < scenes.ON_M:
                continue
            assert (np.abs(after[high] - finger) > RADII[kind_of(high)] + scenes.FINGER_M).any(), (seed, high)
        for a in before:
            for b in before:
                if a < b and frozenset((a, b)) not in on:
                    assert distance(after, a, b) > RADII[kind_of(a)] + RADII[kind_of(b)], (seed, a, b)


@pytest.mark.parametrize("task", sorted(PLACES))
def test_scenes_differ_by_more_than_the_jitter(task: int) -> None:
    """A policy that sees nothing must not find the plate where it always is."""
    plates = np.array([scattered(task, seed)[1]["plate_1"] for seed in range(SEEDS)])
    assert np.ptp(plates, axis=0).max() > 0.15


def test_things_exchange_their_slots() -> None:
    before = {f"thing_{i}": np.array([0.1 * i, 0.0, 0.9]) for i in range(6)}
    firsts = set()
    for seed in range(SEEDS):
        after = exchanged_slots(before, np.random.default_rng(seed))
        slots = [round(float(after[name][0]) / 0.1) for name in before]
        assert sorted(slots) == list(range(6))
        moved = np.array([after[name] - [0.1 * slot, 0.0] for name, slot in zip(before, slots)])
        assert np.abs(moved).max() <= scenes.JITTER_M
        firsts.add(slots[0])
    assert firsts == set(range(6))


def test_a_scene_without_room_is_told() -> None:
    """A bowl in the drawer with no place for the plate but before it: the caller has to take another scene."""
    slots = {f"{name}_1": np.array([0.1 * i, 0.0, 0.9]) for i, name in enumerate(scenes.LANDMARKS)}
    drawer = {"akita_black_bowl_1": np.array([0.1, -0.1, 1.2])}
    assert exchanged_landmarks({**drawer, **slots}, False, np.random.default_rng(0)) == {}
