"""From an observation to what the tokenizers take: resampled image, point groups, where each token lies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...geometry.clouds import crop, farthest_point_sample, group_neighbours, voxel_grid, whereabouts
from ...pruning.types import TokenLayout
from ...types import CameraModel, Observation, View
from ..base import NotReadyError
from ..engine.config import PolicyConfig
from ..proprio import proprio_vector
from .config import MVLAConfig


@dataclass(frozen=True)
class PolicyInput:
    """One observation, ready to be tokenized.

    Attributes:
        image: (V, S, S, 3) uint8 RGB, one for each view.
        centres: (G, 3) float32, base frame, metres.
        groups: (G, K, 3) float32, relative to the centre, metres.
        colours: (G, 3) uint8 RGB of ``group_colours``; (0, 3) for a policy that does not take them.
        proprio: (P,) float32. end_effector: (3,) float32, base frame, metres.
        layout: where the tokens lie, for pruning.
    """

    image: np.ndarray
    centres: np.ndarray
    groups: np.ndarray
    colours: np.ndarray
    proprio: np.ndarray
    end_effector: np.ndarray
    layout: TokenLayout


@dataclass(frozen=True)
class PointGroups:
    """What becomes of a cloud, whatever the image.

    Attributes:
        points: (N, 3) float32, thinned cloud of the workspace, base frame, metres.
        centres: (G, 3) some of them. groups: (G, K, 3) neighbours of each, relative to it.
    """

    points: np.ndarray
    centres: np.ndarray
    groups: np.ndarray


def square_image(image: np.ndarray, camera: CameraModel, size: int) -> tuple[np.ndarray, CameraModel]:
    """Centre square of an image, resampled (area average when it shrinks), and the camera model that fits it.

    Args:
        image: (H, W, 3) uint8. camera: its model. size: edge of the result in pixels.
    """
    image, camera = centre_square(image, camera)
    edge = len(image)
    if edge != size:
        method = Image.Resampling.BOX if edge > size else Image.Resampling.BILINEAR
        image = np.array(Image.fromarray(np.ascontiguousarray(image)).resize((size, size), method))
    return image, camera.resized(size, size)


def view_squares(
    views: Sequence[View], grids: Sequence[tuple[int, int]], size: int
) -> list[tuple[np.ndarray, CameraModel]]:
    """The square of each view that a policy sees, to be drawn on: about ``size`` pixels along an edge, and a whole
    number for each patch.

    Args:
        grids: rows and columns of patches of each view.

    Returns:
        For each view (S, S, 3) uint8 RGB, and the camera model that fits it.
    """
    edges = [math.lcm(*grid) or 1 for grid in grids]
    return [square_image(view.image, view.camera, max(1, size // edge) * edge) for view, edge in zip(views, edges)]


def centre_square(image: np.ndarray, camera: CameraModel) -> tuple[np.ndarray, CameraModel]:
    """Largest square in the middle of an (H, W, 3) image, and the camera model that fits it."""
    height, width = image.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = CameraModel(edge, edge, camera.fx, camera.fy, camera.cx - left, camera.cy - top, camera.base_from_camera)
    return image[top : top + edge, left : left + edge], square


def workspace_points(points: np.ndarray, config: PolicyConfig) -> np.ndarray:
    """Points of an (N, 3) cloud that lie in the workspace of a policy, thinned as its configuration says.

    Raises:
        NotReadyError: fewer than ``config.min_points``.
    """
    thinned = voxel_grid(crop(points, config.workspace_lower, config.workspace_upper), config.voxel_size)
    if len(thinned) < config.min_points:
        raise NotReadyError(
            f"{len(thinned)} points in the workspace {config.workspace_lower} to {config.workspace_upper}, "
            f"need {config.min_points}; {whereabouts(points)}, base frame: check depth (16UC1 is in millimetres), "
            "extrinsics and workspace"
        )
    return thinned


def group_points(points: np.ndarray, config: MVLAConfig) -> PointGroups:
    """Crop, thin, sample and group a cloud.

    Args:
        points: (N, 3) base frame, metres.

    Raises:
        NotReadyError: fewer than ``config.min_points`` points in the workspace.
    """
    points = workspace_points(points, config)
    centres = points[farthest_point_sample(points, config.num_groups)]
    groups = group_neighbours(points, centres, config.group_size)
    return PointGroups(points, centres, groups.astype(np.float32))


def group_colours(centres: np.ndarray, squares: Sequence[tuple[np.ndarray, CameraModel]]) -> np.ndarray:
    """The colour of each group: mean of 5 x 5 pixels around its centre in the first view that it lies in.

    Whether something stands before it there is not looked at.

    Args:
        centres: (G, 3) metres, base frame. squares: (S, S, 3) uint8 RGB and its camera, of each view.

    Returns:
        (G, 3) uint8 RGB, middle grey where no view shows it.
    """
    colours, open_ = np.full((len(centres), 3), 128, np.uint8), np.ones(len(centres), bool)
    for image, camera in squares:
        uv, depth = camera.project(centres)
        at = np.floor(uv).astype(np.int64)
        seen = open_ & (depth > 0) & (at >= 0).all(1) & (at < len(image)).all(1)
        rows, columns = (np.clip(at[seen, axis, None] + _AROUND[axis - 1], 0, len(image) - 1) for axis in (1, 0))
        colours[seen] = image[rows, columns].mean(1).round()
        open_ &= ~seen
    return colours


_AROUND = np.mgrid[-2:3, -2:3].reshape(2, 25)  # pixels: rows, columns


def prepare(observation: Observation, config: MVLAConfig, grouped: PointGroups | None = None) -> PolicyInput:
    """Resample the images, crop, thin, sample and group the points.

    Args:
        grouped: what ``group_points`` made of the observation's points, where that was done before.

    Raises:
        NotReadyError: fewer than ``config.min_points`` points in the workspace.
        ValueError: a view or a feature of the robot's state that the policy takes is missing.
    """
    proprio = proprio_vector(observation.state, config.proprio, config.proprio_dim)
    squares = [square_image(v.image, v.camera, config.image_size) for v in observation.chosen_views(config.views)]
    cameras = {name: camera for name, (_, camera) in zip(config.views, squares)}
    end_effector = np.asarray(observation.state.position, np.float32)
    cloud = group_points(observation.points, config) if grouped is None else grouped
    return PolicyInput(
        image=np.stack([image for image, _ in squares]),
        centres=cloud.centres,
        groups=cloud.groups,
        colours=group_colours(cloud.centres if config.point_colour else cloud.centres[:0], squares),
        proprio=proprio,
        end_effector=end_effector,
        layout=token_layout(cloud.points, cloud.centres, cameras, config, end_effector, observation.stamp_ns),
    )


def token_layout(
    points: np.ndarray,
    centres: np.ndarray,
    cameras: Mapping[str, CameraModel],
    config: PolicyConfig,
    end_effector: np.ndarray,
    stamp_ns: int = 0,
) -> TokenLayout:
    """Where image patches and point groups lie in space and on the image.

    Args:
        points: (N, 3) workspace cloud, metres. centres: (G, 3). cameras: of each view by its name, for the resampled
            image.
        config: size and number of image tokens, spacing of all. end_effector: (3,) metres.
        stamp_ns: of the observation.
    """
    grid, patch_size = config.grid, config.token_pixels

    def patch_of(xyz: np.ndarray, camera: CameraModel) -> np.ndarray:
        uv, depth = camera.project(xyz)
        col, row = (uv // patch_size).astype(np.int64).T
        inside = (depth > 0) & (row >= 0) & (row < grid) & (col >= 0) & (col < grid)
        return np.where(inside, row * grid + col, -1)

    def positions(camera: CameraModel) -> np.ndarray:
        patch = patch_of(points, camera)
        seen = patch >= 0
        count = np.bincount(patch[seen], minlength=grid * grid)
        with np.errstate(invalid="ignore"):  # patches without a point: 0 / 0, left as NaN
            return np.stack([np.bincount(patch[seen], points[seen, axis], grid * grid) / count for axis in range(3)], 1)

    patches = np.stack([patch_of(centres, camera) for camera in cameras.values()])
    first = grid * grid * np.arange(len(cameras))[:, None]
    return TokenLayout(
        views=tuple(cameras),
        grids=((grid, grid),) * len(cameras),
        image_positions=np.concatenate([positions(camera) for camera in cameras.values()]).astype(np.float32),
        point_positions=centres.astype(np.float32),
        point_patches=np.where(patches >= 0, patches + first, -1),
        camera_poses=np.stack([camera.base_from_camera for camera in cameras.values()]),
        end_effector=np.asarray(end_effector, np.float32),
        spacing=config.token_spacing,
        stamp_ns=stamp_ns,
    )
