"""Sensors as they are: what real cameras do to pictures, depth and calibration, done to those of the simulator.

Parts have names and are put together with ``+``: ``realsense+calibration1``. All of it is drawn from the seed of the
episode, so that methods that look at the same times see the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, maximum_filter, minimum_filter
from scipy.spatial.transform import Rotation

from ..types import Observation
from .camera import Shot
from .robot import Robot

# A stereo camera such as the RealSense D435 at 848 x 480: depth is focal length x baseline / disparity, so that what an
# error of the disparity does grows with the square of the distance (Intel's guide to tuning D400 cameras).
FOCAL_BASELINE = 425.0 * 0.050  # pixels x m
SUBPIXEL = 0.08  # standard deviation of the disparity, pixels
STEPS_PER_PIXEL = 32  # of the disparity
NOISE_WIDTH = 1.5  # standard deviation of the window over which neighbours are matched together, pixels of ours
NEAREST_M, FARTHEST_M = 0.3, 3.0
EDGE = 0.05  # of the depth: a larger step between neighbours is an edge
EDGE_HOLES, FLYING, SURFACE_HOLES = 0.6, 0.3, 0.6  # shares of the pixels concerned
DARK, SHINY = 30, 245  # grey values of surfaces that give no depth
GAIN, BALANCE = 0.35, 0.12  # brightness between 1 - and 1 + this; standard deviation of the gain of a colour
DARKNESS = 0.12  # of the brightness that is left
MISSING_FRAMES, BLACK_FRAMES = 0.2, 0.33
HIDDEN = 0.4  # of the edge of a picture

Rng = np.random.Generator


def _depth_noise(shot: Shot, rng: Rng) -> Shot:
    """Noise that grows with the square of the distance, alike in neighbouring pixels."""
    noise = gaussian_filter(rng.normal(size=shot.depth.shape), NOISE_WIDTH)
    noise *= SUBPIXEL / (noise.std() + 1e-12)
    return _with_depth(shot, _depth_of(_disparity(shot.depth) + noise))


def _quantised(shot: Shot, rng: Rng) -> Shot:
    """Disparity in steps."""
    return _with_depth(shot, _depth_of(np.round(_disparity(shot.depth) * STEPS_PER_PIXEL) / STEPS_PER_PIXEL))


def _holes(shot: Shot, rng: Rng) -> Shot:
    """No depth beside edges, and in spots on dark and shiny surfaces."""
    image = shot.view.image
    grey = image.mean(2)
    poor = (grey < DARK) | (image.min(2) > SHINY)
    spots = gaussian_filter(rng.normal(size=grey.shape), 2.0)
    lost = poor & (spots < np.quantile(spots, SURFACE_HOLES))
    lost |= _edges(shot.depth) & (rng.random(grey.shape) < EDGE_HOLES)
    return _with_depth(shot, np.where(lost, 0.0, shot.depth))


def _range(shot: Shot, rng: Rng) -> Shot:
    """Nothing that is too near or too far."""
    return _with_depth(shot, np.where((shot.depth < NEAREST_M) | (shot.depth > FARTHEST_M), 0.0, shot.depth))


def _flying(shot: Shot, rng: Rng) -> Shot:
    """Pixels at edges that lie between what is before and what is behind."""
    depth = shot.depth
    near, far = minimum_filter(np.where(depth > 0, depth, np.inf), 3), maximum_filter(depth, 3)
    flying = _edges(depth) & (depth > 0) & np.isfinite(near) & (rng.random(depth.shape) < FLYING)
    between = np.where(flying, near, 0) + rng.random(depth.shape) * np.where(flying, far - near, 0)
    return _with_depth(shot, np.where(flying, between, depth))


def _half_depth(shot: Shot, rng: Rng) -> Shot:
    """No depth in the left half of the picture."""
    depth = shot.depth.copy()
    depth[:, : depth.shape[1] // 2] = 0
    return _with_depth(shot, depth)


def _dark(shot: Shot, rng: Rng) -> Shot:
    """Hardly any light."""
    return _with_image(shot, shot.view.image * DARKNESS + rng.normal(0, 2, shot.view.image.shape))


def _black(shot: Shot, rng: Rng) -> Shot:
    """Now and then a picture without anything on it."""
    return _with_image(shot, np.zeros_like(shot.view.image)) if rng.random() < BLACK_FRAMES else shot


@dataclass(frozen=True)
class _Lighting:
    """Brightness and white balance, another one in each episode."""

    gains: np.ndarray

    @classmethod
    def drawn(cls, rng: Rng) -> _Lighting:
        return cls(rng.uniform(1 - GAIN, 1 + GAIN) * np.exp(rng.normal(0, BALANCE, 3)))

    def __call__(self, shot: Shot, rng: Rng) -> Shot:
        return _with_image(shot, shot.view.image * self.gains)


@dataclass(frozen=True)
class _Miscalibration:
    """A camera that stands elsewhere than is believed, by the same all through an episode."""

    error: np.ndarray  # (4, 4)

    @classmethod
    def drawn(cls, rng: Rng, centimetres: float) -> _Miscalibration:
        """So many centimetres and degrees, in directions that are drawn."""
        way, axis = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
        error = np.eye(4)
        error[:3, :3] = Rotation.from_rotvec(np.deg2rad(centimetres) * axis).as_matrix()
        error[:3, 3] = 0.01 * centimetres * way
        return cls(error)

    def __call__(self, shot: Shot, rng: Rng) -> Shot:
        camera = shot.view.camera
        believed = replace(camera, base_from_camera=camera.base_from_camera @ self.error)
        return replace(shot, view=replace(shot.view, camera=believed))


@dataclass(frozen=True)
class _Occlusion:
    """Something grey and near before a part of each picture, all through an episode."""

    corner: np.ndarray  # (2,) shares of height and width

    @classmethod
    def drawn(cls, rng: Rng) -> _Occlusion:
        return cls(rng.uniform(0, 1 - HIDDEN, 2))

    def __call__(self, shot: Shot, rng: Rng) -> Shot:
        size = np.array(shot.depth.shape)
        (top, left), (height, width) = (self.corner * size).astype(int), (HIDDEN * size).astype(int)
        image, depth = shot.view.image.copy(), shot.depth.copy()
        image[top : top + height, left : left + width] = 90
        depth[top : top + height, left : left + width] = 0  # nearer than depth is measured
        return _with_depth(_with_image(shot, image), depth)


Part = Callable[[Shot, Rng], Shot]
REALSENSE = ("noise", "flying", "holes", "range", "quantised")
# Each part, made for an episode.
PARTS: dict[str, Callable[[Rng], Part]] = {
    "noise": lambda rng: _depth_noise,
    "quantised": lambda rng: _quantised,
    "holes": lambda rng: _holes,
    "range": lambda rng: _range,
    "flying": lambda rng: _flying,
    "calibration1": lambda rng: _Miscalibration.drawn(rng, 1.0),
    "calibration2": lambda rng: _Miscalibration.drawn(rng, 2.0),
    "lighting": _Lighting.drawn,
    "dark": lambda rng: _dark,
    "black": lambda rng: _black,
    "occluded": _Occlusion.drawn,
    "halfdepth": lambda rng: _half_depth,
}
DROPPED = "dropped"  # frames that do not come
WORDS = ("realsense", *PARTS, DROPPED)


def parts_named(text: str) -> tuple[str, ...]:
    """Names of parts of ``a+b``, ``realsense`` in its parts; none for the empty text.

    Raises:
        ValueError: there is no such part, or one is named twice.
    """
    names = tuple(n for word in filter(None, text.split("+")) for n in (REALSENSE if word == "realsense" else (word,)))
    for name in names:
        if name not in WORDS:
            raise ValueError(f"sensors {text!r}: {name!r} must be one of {', '.join(WORDS)}, put together with +")
    if len(set(names)) != len(names):
        raise ValueError(f"sensors {text!r} name a part twice; realsense is {'+'.join(REALSENSE)}")
    return names


class Senses:
    """Looks at a robot through worse sensors for one episode."""

    def __init__(self, robot: Robot, sensors: str, seed: int) -> None:
        """sensors: see ``parts_named``. seed: of the episode."""
        names = parts_named(sensors)
        self._robot, self._rng = robot, np.random.default_rng([seed, 3])
        self._drops = DROPPED in names
        self._parts = [[PARTS[name](self._rng) for name in names if name != DROPPED] for _ in robot.views]

    def observe(self, instruction: str | None = None) -> Observation | None:
        """What is seen now; None where the frame was lost. instruction: None for the task's own."""
        if self._drops and self._rng.random() < MISSING_FRAMES:
            return None
        shots = tuple(self._through(parts, shot) for parts, shot in zip(self._parts, self._robot.render()))
        return self._robot.observation_of(shots, instruction)

    def _through(self, parts: list[Part], shot: Shot) -> Shot:
        for part in parts:
            shot = part(shot, self._rng)
        return shot


def _disparity(depth: np.ndarray) -> np.ndarray:
    return FOCAL_BASELINE / np.where(depth > 0, depth, np.inf)


def _depth_of(disparity: np.ndarray) -> np.ndarray:
    """0 where there is none."""
    return np.where(disparity > FOCAL_BASELINE / 100, FOCAL_BASELINE / np.maximum(disparity, 1e-6), 0.0)


def _edges(depth: np.ndarray) -> np.ndarray:
    """(H, W) bool: a neighbour is farther or nearer by more than ``EDGE`` of the depth."""
    step = maximum_filter(depth, 3) - minimum_filter(depth, 3)
    return binary_dilation(step > EDGE * np.maximum(depth, 1e-3)) & (depth > 0)


def _with_depth(shot: Shot, depth: np.ndarray) -> Shot:
    return replace(shot, depth=np.where(shot.depth > 0, depth, 0.0).astype(np.float32))


def _with_image(shot: Shot, image: np.ndarray) -> Shot:
    return replace(shot, view=replace(shot.view, image=np.clip(image, 0, 255).astype(np.uint8)))
