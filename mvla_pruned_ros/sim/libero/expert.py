"""Scripted experts of LIBERO's tasks. They see the true state; nobody else does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

if TYPE_CHECKING:
    from .robot import LiberoRobot

DOWN = Rotation.from_euler("x", np.pi)  # of the hand; its fingers close along y
GAIN, TURN_GAIN = 7.5, 2.5  # 1/s
FASTEST, FASTEST_TURN = 0.25, 1.0  # m/s, rad/s
UPRIGHT = 0.2  # rad; a hand that leans or is turned aside by less goes as fast as it can
OPEN, CLOSE = -1.0, 1.0
CLOSING_STEPS = 10
LOST_M = 0.15  # a thing that is carried and so far from the hand was lost
RIM_M = 0.048  # from the middle of the bowl to its rim, where one finger goes in and one stays out
DRAWER_RIM_M = 0.04  # along -x, with the hand turned: only there the drawer leaves room for the fingers
BOWL_HEIGHT_M = 0.052
# So far from the base and so high above it the arm comes down to a grasp nearly straight, and its elbow locks. On the
# table, as far away, it does not.
REACH_M, HIGH_M = 0.74, 0.2
DEPTH_M = 0.024  # of the hand below the rim
LEANING, LEANING_DEPTH_M = np.cos(0.2), 0.03  # a bowl that leans on what it stands on slips, or takes that along
PALM_M = np.array([0.035, 0.105])  # along x and y, from the middle of the hand to the edge of its palm
PALM_HEIGHT_M = 0.038  # of the palm above the point that is between the finger tips
OVER_M, BESIDE_M = 0.03, np.array([0.025, 0.07])  # what open fingers need below and beside them on their way
PAD_M = 0.015  # half the width of a finger


@dataclass(frozen=True)
class Plan:
    """Where to grasp and where to let go; metres, base frame.

    Attributes:
        thing: name of what is carried. grasp: (3,) of the hand. hover_z, lift_z: heights of the hand to come from and
            to carry at. place: (2,) of the thing. release_z: height of the hand at which it lets go. turn: of the hand
            about z, rad.
    """

    thing: str
    grasp: np.ndarray
    hover_z: float
    lift_z: float
    place: np.ndarray
    release_z: float
    turn: float = 0.0


class Expert:
    """Hover, descend, close, lift, carry, lower, let go: one phase after another."""

    def __init__(self, robot: LiberoRobot) -> None:
        self._robot = robot
        self._begin()

    def _begin(self) -> None:
        of_objects = self._robot.task.suite == "libero_object"
        self._plan = (_into_the_basket if of_objects else _onto_the_plate)(self._robot)
        self._phase, self._waited = 0, 0

    def command(self) -> np.ndarray:
        """(7,) command; goes on to the next phase by itself."""
        state, plan = self._robot.state, self._plan
        hand, thing, grip = np.asarray(state.position, np.float64), self._robot.place_of(plan.thing), OPEN
        if self._phase in (3, 4, 5) and np.linalg.norm(hand - thing) > LOST_M:
            self._begin()
            plan = self._plan
        goal = np.array([*plan.grasp[:2], plan.hover_z])
        turn = (Rotation.from_euler("z", plan.turn) * DOWN * Rotation.from_quat(state.orientation).inv()).as_rotvec()
        turned = float(np.linalg.norm(turn)) < 0.12
        if self._phase == 0 and turned and _aside(hand, goal) < 0.008 and abs(hand[2] - goal[2]) < 0.03:
            self._phase = 1
        if self._phase == 1:
            goal = plan.grasp
            if _aside(hand, goal) < 0.01 and hand[2] - goal[2] < 0.008:
                self._phase = 2
        if self._phase == 2:
            goal, grip = hand, CLOSE
            self._waited += 1
            if self._waited >= CLOSING_STEPS:
                self._phase = 3
        if self._phase == 3:
            goal, grip = np.array([*plan.grasp[:2], plan.lift_z]), CLOSE
            if goal[2] - hand[2] < 0.04:
                self._phase = 4
        if self._phase in (4, 5):  # the thing over the place, wherever it was gripped
            goal, grip = np.array([*(plan.place + hand[:2] - thing[:2]), plan.lift_z]), CLOSE
        if self._phase == 4 and _aside(hand, goal) < 0.015:
            self._phase = 5
        if self._phase == 5:
            goal[2] = plan.release_z
            if hand[2] - goal[2] < 0.012:
                self._phase = 6
        if self._phase == 6:
            goal = hand
        # The slower, the more the hand leans: it rights itself before it goes on.
        fastest = FASTEST * float(np.clip(UPRIGHT / max(float(np.linalg.norm(turn)), 1e-6), 0.2, 1.0))
        velocity = np.clip((goal - hand) * GAIN, -fastest, fastest)
        return np.concatenate([velocity, np.clip(turn * TURN_GAIN, -FASTEST_TURN, FASTEST_TURN), [grip]])


def _aside(hand: np.ndarray, goal: np.ndarray) -> float:
    return float(np.linalg.norm((hand - goal)[:2]))


def _into_the_basket(robot: LiberoRobot) -> Plan:
    thing, basket = robot.goal[:2]
    beside = _beside(robot, thing)
    middle, top, shift = _grasp_of(robot, thing, beside)
    place = robot.place_of(basket)
    grasp = middle + [shift or 0.0, 0.0, 0.0]
    hover = top + 0.09
    for box in beside:
        if box[1, 2] > hover - OVER_M and _passes(robot.state.position[:2], grasp[:2], box):
            hover = box[1, 2] + OVER_M
    return Plan(thing, grasp, hover, grasp[2] + 0.22, place[:2], place[2] + 0.16)


def _passes(start: np.ndarray, end: np.ndarray, box: np.ndarray) -> bool:
    """Whether fingers on the straight way from (2,) ``start`` to ``end`` come near a box, (2, 3) corners."""
    way = start + np.linspace(0, 1, 50)[:, None] * (end - start)
    return bool((np.abs(way - np.clip(way, box[0, :2], box[1, :2])) < BESIDE_M).all(1).any())


def has_room(robot: LiberoRobot) -> bool:
    """Whether the palm gets at what a task of libero_object means beside what stands around it."""
    thing = robot.goal[0]
    return _grasp_of(robot, thing, _beside(robot, thing))[2] is not None


def _beside(robot: LiberoRobot, thing: str) -> list[np.ndarray]:
    """(2, 3) corners of everything else."""
    return [robot.extent_of(name) for name in robot.things if name != thing]


def _grasp_of(robot: LiberoRobot, thing: str, beside: list[np.ndarray]) -> tuple[np.ndarray, float, float | None]:
    """Where the hand would grasp a thing, (3,), the thing's top, and how far beside that along x; see ``_shift``."""
    lower, upper = robot.extent_of(thing)
    middle, top = (lower + upper)[:2] / 2, float(upper[2])
    # As deep as the middle, 1 cm below the top at least and 3 cm at most, the fingers clear of the floor.
    low = max(0.012, min(float(robot.place_of(thing)[2]), top - 0.01), top - 0.03)
    high = [box for box in beside if box[1, 2] > low + PALM_HEIGHT_M]
    return np.array([*middle, low]), top, _shift(middle, upper[0] - middle[0] - PAD_M, high)


def _shift(middle: np.ndarray, most: float, obstacles: list[np.ndarray]) -> float | None:
    """How far along x from the middle of a thing the hand grasps, that its palm comes down beside what is high.

    Args:
        middle: (2,) of the thing. most: as far as the thing reaches under the fingers. obstacles: (2, 3) corners.

    Returns:
        The shortest way, metres; None where none is free.
    """
    for shift in sorted(np.linspace(-most, most, 21) if most > 0 else [0.0], key=abs):
        at = middle + [shift, 0.0]
        if not any((np.abs(at - np.clip(at, b[0, :2], b[1, :2])) < PALM_M).all() for b in obstacles):
            return float(shift)
    return None


def _onto_the_plate(robot: LiberoRobot) -> Plan:
    bowl, plate = robot.goal[:2]
    up = robot.turn_of(bowl).apply([0.0, 0.0, 1.0])  # it may lean

    def rim_at(aside: np.ndarray, distance: float) -> np.ndarray:
        return robot.place_of(bowl) + BOWL_HEIGHT_M * up + distance * (aside - (aside @ up) * up)

    nearest = np.array([-1.0, 0.0, 0.0])  # there the hand has to turn
    turn, rim = 0.0, rim_at(np.array([0.0, 1.0, 0.0]), RIM_M)
    if "drawer" in robot.task.instruction:
        turn, rim = np.pi / 2, rim_at(nearest, DRAWER_RIM_M)
    elif np.linalg.norm(rim[:2]) > REACH_M and rim[2] > HIGH_M:
        turn, rim = np.pi / 2, rim_at(nearest, RIM_M)
    depth = LEANING_DEPTH_M if up[2] < LEANING else DEPTH_M
    place, low = robot.place_of(plate), rim[2] - depth
    release = place[2] + BOWL_HEIGHT_M - depth + 0.012
    return Plan(bowl, np.array([*rim[:2], low]), rim[2] + 0.09, max(low + 0.1, 0.2), place[:2], release, turn)
