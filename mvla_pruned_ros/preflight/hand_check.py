"""Whether the hand is seen where the arm says it is: the check of the extrinsics that needs no target.

Around the end effector there must be points of the hand: none within ``REACH_M``, although the camera looks there, or
all of them to one side, and the camera is not where its extrinsics say. What cannot be told without knowing the hand is
an error along its fingers, and one along the line of sight that is smaller than the hand is thick.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ..types import CameraModel, Observation
from .finding import Finding, fail, ok, unknown, warn

REACH_M = 0.05  # from the end effector to the nearest point of the hand
BALL_M = 0.10  # around the end effector, in which points are taken for those of the hand
BELOW_M = 0.01  # points farther below the end effector may be those of a table
SIDE_M = 0.022  # mean of the hand's points beside the line of sight: hands are about symmetric
BEHIND_M, BEFORE_M = -0.005, 0.065  # the same along it: what is seen is the front of the hand, before its middle
LEAST_POINTS, LEAST_AROUND, LEAST_DENSITY = 30, 10, 0.6  # density: of points around it, to that farther out
NEAR_M = 0.3  # from the camera
SIGHT_M, AROUND_M = 0.02, 0.04  # radii about the line of sight
HIDDEN_M, HIDDEN = 0.12, 0.5  # so far before the end effector, and so much of what is seen there, hides it
# The largest plane: tries and points to find it, thickness, least share of points. A table is level, a wall upright.
PLANE_TRIES, PLANE_POINTS, PLANE_M, PLANE_SHARE = 200, 1500, 0.01, 0.4
LEVEL_DEG, UPRIGHT_DEG = 8.0, 80.0
CHECK = "extrinsics"
PICTURE = "# look at preflight.png: points on what they are of, the cross on the hand"


@dataclass(frozen=True)
class HandSeen:
    """Where the hand is seen from a camera. None of the numbers is given where there is nothing to measure.

    Attributes:
        unseen: why it cannot be judged; empty when it can. nearest_m: from the end effector to the nearest point.
        side_m, down_m, ahead_m: mean of the hand's points relative to the end effector, in the camera's axes.
    """

    unseen: str = ""
    nearest_m: float = np.inf
    side_m: float = np.nan
    down_m: float = np.nan
    ahead_m: float = np.nan

    @property
    def fault(self) -> str:
        """What is wrong, in words; empty when nothing is."""
        if self.unseen:
            return ""
        if self.nearest_m > REACH_M:
            reach = f"{REACH_M * 100:.0f} cm"
            return f"the camera sees no point within {reach} of it, the nearest is {_cm(self.nearest_m)} away"
        if not np.isfinite(self.side_m):
            return ""
        if abs(self.side_m) > SIDE_M:
            return f"the hand is seen {_cm(self.side_m)} to the {'right' if self.side_m > 0 else 'left'} of it"
        if self.ahead_m > BEHIND_M or self.ahead_m < -BEFORE_M:
            return f"the hand is seen {_cm(self.ahead_m)} {'behind' if self.ahead_m > 0 else 'before'} it"
        return ""


def hand_seen(points: np.ndarray, camera: CameraModel, end_effector: np.ndarray) -> HandSeen:
    """Measure where the hand is.

    Args:
        points: (N, 3) metres, base frame. camera: that looks at it. end_effector: (3,) metres, base frame.
    """
    points = np.asarray(points, np.float64)
    [pixel], [depth] = camera.project(end_effector[None])
    if depth <= 0:
        return HandSeen("by the extrinsics the end effector is behind the camera")
    if not (0 <= pixel[0] < camera.width and 0 <= pixel[1] < camera.height):
        return HandSeen(f"the end effector is not in the picture, but at pixel ({pixel[0]:.0f}, {pixel[1]:.0f})")
    uv, depths = camera.project(points)
    beside_m = np.hypot(*(uv - pixel).T) * depth / camera.fx
    ahead = depths > 0
    if depth < NEAR_M:
        return HandSeen(f"the end effector is {_cm(depth)} before the camera, nearer than depth cameras measure")
    sight = depths[ahead & (beside_m < SIGHT_M)]
    if len(sight) and np.mean(sight < depth - HIDDEN_M) > HIDDEN:
        return HandSeen("something before the end effector hides it")
    away = points - end_effector
    distance = np.linalg.norm(away, axis=1)
    nearest_m = float(distance.min(initial=np.inf))
    if nearest_m > REACH_M and _sparse(beside_m[ahead]):
        return HandSeen("there is little depth where the end effector is seen")
    hand = away[(distance < BALL_M) & (away[:, 2] > -BELOW_M)]
    if len(hand) < LEAST_POINTS:
        return HandSeen(nearest_m=nearest_m)
    side, down, forward = (hand @ camera.base_from_camera[:3, :3]).mean(0)
    return HandSeen("", nearest_m, float(side), float(down), float(forward))


def _sparse(beside_m: np.ndarray) -> bool:
    """Whether there is no depth about a line of sight, as where a hand reflects none; then it is not seen through.

    Args:
        beside_m: (N,) metres of points from that line.
    """
    around = int((beside_m < AROUND_M).sum())
    farther = int((beside_m < 2 * AROUND_M).sum()) - around  # on three times the area
    return around < LEAST_AROUND or around < LEAST_DENSITY * farther / 3


def plane_tilt(points: np.ndarray) -> float | None:
    """How far the largest plane of a cloud is tilted from the horizontal, degrees, up to 90; None: none is large.

    Args:
        points: (N, 3) metres, base frame.
    """
    rng = np.random.default_rng(0)
    some = points[rng.permutation(len(points))[:PLANE_POINTS]].astype(np.float64)
    if len(some) < LEAST_POINTS:
        return None
    corners = some[rng.integers(0, len(some), (PLANE_TRIES, 3))]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    normals, corners = normals[lengths > 0] / lengths[lengths > 0, None], corners[lengths > 0]
    if not len(normals):
        return None
    away = np.abs(some @ normals.T - (corners[:, 0] * normals).sum(1))
    counts = (away < PLANE_M).sum(0)
    best = int(counts.argmax())
    if counts[best] < PLANE_SHARE * len(some):
        return None
    return float(np.degrees(np.arccos(np.clip(abs(normals[best, 2]), 0, 1))))


def judge_hand(observation: Observation, given: bool) -> Finding:
    """Whether extrinsics and the pose of the hand agree, and whether what looks like a table is level.

    Args:
        given: extrinsics are parameters, so that another way to read them can be named.
    """
    view, position = observation.views[0], np.asarray(observation.state.position, np.float64)
    seen = hand_seen(observation.points, view.camera, position)
    tilt = plane_tilt(observation.points)
    tilted = tilt is not None and LEVEL_DEG < tilt < UPRIGHT_DEG
    wrong = seen.unseen or seen.fault or (f"the largest plane is tilted by {tilt:.0f} degrees" if tilted else "")
    if wrong and given:
        for words, pose in other_readings(view.camera.base_from_camera):
            if _fits(observation, pose):
                found = f"{wrong}; with {words} the hand is where the arm says it is"
                return fail(CHECK, f"axes are swapped: {found}", _lines(pose))
    if seen.unseen:
        return unknown(
            CHECK, f"could not judge: {seen.unseen}", "# move the hand into view and run it again\n" + PICTURE
        )
    where = ", ".join(f"{value:.3f}" for value in position)
    if seen.fault:
        remedy = f"# calibrate the camera again (hand-eye); is ~/ee_pose that of the fingers' middle?\n{PICTURE}"
        return fail(CHECK, f"the hand is not where the arm says it is, ({where}) m: {seen.fault}", remedy)
    if tilted:
        found = f"{wrong}: a table, or the rotation of the camera is wrong by as much"
        return warn(CHECK, found, f"# is extrinsics.rotation_xyzw that of the optical frame, x y z w?\n{PICTURE}")
    if not np.isfinite(seen.side_m):
        words = f"could not judge: too few points around the end effector, the nearest {_cm(seen.nearest_m)} away"
        return unknown(CHECK, words, PICTURE)
    words = f"the hand is seen around the end effector, {_cm(seen.nearest_m)} from it"
    return ok(CHECK, f"{words} (an error along its fingers cannot be told: see preflight.png)")


def other_readings(pose: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What a (4, 4) base_from_camera may have been meant to be: how it is read, and the pose that it is then."""
    quaternion = Rotation.from_matrix(pose[:3, :3]).as_quat()
    first_is_w = pose.copy()  # given as w x y z, and read as x y z w
    first_is_w[:3, :3] = Rotation.from_quat(np.roll(quaternion, -1)).as_matrix()
    yield "the quaternion read as w x y z", first_is_w
    body = pose.copy()  # of a frame with x ahead, y left, z up
    body[:3, :3] = pose[:3, :3] @ np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    yield "the pose taken for that of the camera's body (x ahead), not of its optical frame", body
    yield "the pose inverted (it is that of the base in the camera frame)", np.linalg.inv(pose)


def _fits(observation: Observation, pose: np.ndarray) -> bool:
    """Whether the hand is seen where it is with another pose of the camera."""
    camera = observation.views[0].camera
    change = pose @ np.linalg.inv(camera.base_from_camera)
    points = observation.points @ change[:3, :3].T + change[:3, 3]
    moved = CameraModel(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, pose)
    seen = hand_seen(points, moved, np.asarray(observation.state.position, np.float64))
    tilt = plane_tilt(points)
    level = tilt is None or not LEVEL_DEG < tilt < UPRIGHT_DEG
    return level and not seen.unseen and not seen.fault and bool(np.isfinite(seen.side_m))


def _lines(pose: np.ndarray) -> str:
    """Extrinsics as parameters."""
    turn = Rotation.from_matrix(pose[:3, :3]).as_quat()
    numbers: Mapping[str, np.ndarray] = {"translation": pose[:3, 3], "rotation_xyzw": turn}
    lines = [f"  {name}: [{', '.join(f'{value:.6f}' for value in values)}]" for name, values in numbers.items()]
    return "\n".join(["extrinsics:", *lines])


def _cm(metres: float) -> str:
    return f"{abs(metres) * 100:.1f} cm"
