"""Scattered scenes: where the things of a task stand, drawn by a seed (ours).

In LIBERO's own initial states a thing stands within a few centimetres of one place, and a policy that sees nothing
solves most of them. Here places are exchanged and everything is moved by up to ``JITTER_M`` along x and y.
"""

from __future__ import annotations

import numpy as np

JITTER_M = 0.025
TRIES = 2000

# Radii about the middle of things of libero_spatial, metres; of the plate, whose rim is low and wide, less than it has.
RADII = {"plate": 0.062, "glazed_rim_porcelain_ramekin": 0.048, "cookies": 0.046, "akita_black_bowl": 0.057}
LANDMARKS = ("plate", "glazed_rim_porcelain_ramekin", "cookies")
ON_M, NEXT_M = 0.04, 0.145  # a bowl nearer than that to a landmark stands on it, or next to it
FURNITURE_M = 0.02  # what stands alone and so much higher than the lowest thing stands on or in furniture
BASE = np.array([-0.66, 0.0])  # of the robot in libero_spatial
REACH_M = 0.775  # of a hand that points down, to the far rim of a bowl: farther, its elbow is straight and stays so
CABINET_Y = -0.09
DRAWER_M = 0.19
HIGH = ("glazed_rim_porcelain_ramekin", "akita_black_bowl")  # reach up to a hand that grasps a bowl
FINGER_M = np.array([0.02, 0.025])  # half of the room that an open finger takes, along x and y
GAP_M = 0.008  # at least, between things that do not stand on one another


def exchanged_slots(places: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Things permuted over the places of all of them, and moved.

    Args:
        places: (3,) position of each thing, metres.

    Returns:
        (2,) x and y of each.
    """
    slots = [place[:2] for place in places.values()]
    order = rng.permutation(len(slots))
    return {name: slots[k] + rng.uniform(-JITTER_M, JITTER_M, 2) for name, k in zip(places, order)}


def exchanged_landmarks(
    places: dict[str, np.ndarray], between: bool, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Landmarks permuted over the places of all of them, and moved; bowls keep their relation to them.

    A bowl that stood on a landmark stands on it again; one next to a landmark, next to it in a direction that is
    drawn; one between two of them, in the middle; one that stands alone is moved only, and one on or in a piece of
    furniture stays. Drawn again until nothing stands in another's way, the arm reaches every bowl, and there is room
    for a finger beside the first one.

    Args:
        places: (3,) position of each thing, metres. Names end in a number. between: whether the first bowl is the one
            between plate and ramekin.

    Returns:
        (2,) x and y of each; empty where the bowls of this scene leave no room for that.
    """
    marks = {name: place[:2] for name, place in places.items() if kind_of(name) in LANDMARKS}
    bowls = {name: place for name, place in places.items() if name not in marks}
    table = min(place[2] for place in places.values())
    slots = list(marks.values())
    nearest_of: dict[str, tuple[str, float]] = {}  # of each bowl the nearest landmark, and how far away that was
    for name, place in bowls.items():
        distances = {mark: float(np.linalg.norm(at - place[:2])) for mark, at in marks.items()}
        nearest_of[name] = min(distances.items(), key=lambda item: item[1])
    in_furniture = {n: nearest_of[n][1] >= NEXT_M and place[2] > table + FURNITURE_M for n, place in bowls.items()}
    standing = [name for name in bowls if not in_furniture[name]]
    for _ in range(TRIES):
        order = rng.permutation(len(slots))
        new = {name: slots[k] + rng.uniform(-JITTER_M, JITTER_M, 2) for name, k in zip(marks, order)}
        on: set[frozenset[str]] = set()
        for index, (name, place) in enumerate(bowls.items()):
            nearest, away = nearest_of[name]
            if index == 0 and between:
                plate, ramekin = (next(new[m] for m in new if kind_of(m) == kind) for kind in LANDMARKS[:2])
                new[name] = (plate + ramekin) / 2
            elif away < ON_M:
                new[name] = new[nearest].copy()
                on.add(frozenset((name, nearest)))
            elif away < NEXT_M:
                angle = rng.uniform(0, 2 * np.pi)
                away = max(away, _least(name, nearest) + 0.001)
                new[name] = new[nearest] + away * np.array([np.cos(angle), np.sin(angle)])
            elif in_furniture[name]:
                new[name] = place[:2]
            else:
                new[name] = place[:2] + rng.uniform(-JITTER_M, JITTER_M, 2)
        clear = all(_clear(new[name], new) for name in bowls if in_furniture[name])
        reached = all(_reached(new[name]) for name in standing)
        if _apart(new, on) and _inside(new, places) and clear and reached and _finger_fits(next(iter(bowls)), new):
            return new
    return {}


def kind_of(name: str) -> str:
    """``plate`` of ``plate_1``."""
    return name.rsplit("_", 1)[0]


def _least(a: str, b: str) -> float:
    """How far apart two things have to stand, metres."""
    return RADII[kind_of(a)] + RADII[kind_of(b)] + GAP_M


def _apart(places: dict[str, np.ndarray], on: set[frozenset[str]]) -> bool:
    names = list(places)
    return all(
        np.linalg.norm(places[a] - places[b]) > _least(a, b)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if frozenset((a, b)) not in on
    )


def _reached(place: np.ndarray) -> bool:
    """Whether the hand gets at a bowl on the table: near enough to the arm, not before the front of the cabinet."""
    rim = place + [0.0, RADII["akita_black_bowl"]]
    return float(np.linalg.norm(rim - BASE)) < REACH_M and float(place[1]) > CABINET_Y


def _finger_fits(bowl: str, places: dict[str, np.ndarray]) -> bool:
    """Whether a finger has room outside the rim of a bowl, where along y it is grasped, beside what is high."""
    finger = places[bowl] + [0.0, RADII["akita_black_bowl"] + FINGER_M[1]]
    return all(
        bool((np.abs(places[name] - finger) > RADII[kind_of(name)] + FINGER_M).any())
        for name in places
        if kind_of(name) in HIGH and np.linalg.norm(places[name] - places[bowl]) > ON_M
    )


def _clear(place: np.ndarray, places: dict[str, np.ndarray]) -> bool:
    """Whether a bowl that comes out of the furniture can be put onto the plate without touching it."""
    return all(float(np.linalg.norm(places[n] - place)) > DRAWER_M for n in places if kind_of(n) == "plate")


def _inside(places: dict[str, np.ndarray], before: dict[str, np.ndarray]) -> bool:
    """Whether all stand within the rectangle of where they stood, a little widened."""
    old = np.array([place[:2] for place in before.values()])
    lower, upper = old.min(0) - 2 * JITTER_M, old.max(0) + 2 * JITTER_M
    return all(bool((place >= lower).all() and (place <= upper).all()) for place in places.values())
