"""From an observation to what MLA's towers take: image, points, groups, where each token lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ...geometry.clouds import farthest_point_sample
from ...pruning.types import TokenLayout
from ...types import CameraModel, Observation
from ..mvla.preprocess import centre_square, token_layout, workspace_points
from ..proprio import proprio_vector
from .config import MLAConfig
from .point_tower import sample_groups


@dataclass(frozen=True)
class MLAInput:
    """One observation, ready to be tokenized.

    Attributes:
        image: (V, S, S, 3) uint8 RGB, one for each view.
        points: (N, 3) float32, base frame, metres. first: (N / 2,), second: (N / 4,) int64, see ``PointTower``.
        proprio: (P,) float32, in physical units.
        layout: where the tokens lie, for pruning.
    """

    image: np.ndarray
    points: np.ndarray
    first: np.ndarray
    second: np.ndarray
    proprio: np.ndarray
    layout: TokenLayout


def clip_image(image: np.ndarray, camera: CameraModel, size: int) -> tuple[np.ndarray, CameraModel]:
    """As CLIP's preprocessing does it: the shorter edge resampled to ``size`` (bicubic), then the centre square.

    Args:
        image: (H, W, 3) uint8. camera: its model.

    Returns:
        (size, size, 3) uint8, and the camera model that fits it.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    if short != size:
        height, width = size * height // short, size * width // short
        resized = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BICUBIC)
        image, camera = np.array(resized), camera.resized(width, height)
    return centre_square(image, camera)


def sample_cloud(points: np.ndarray, config: MLAConfig) -> tuple[np.ndarray, np.ndarray]:
    """The workspace part of a cloud, and the points that the tower is given.

    Args:
        points: (N, 3) metres, base frame.

    Returns:
        (M, 3) float32 cropped and thinned, (num_points, 3) float32 of it, padded with the origin as upstream does.

    Raises:
        NotReadyError: fewer than ``config.min_points`` in the workspace.
    """
    points = workspace_points(points, config)
    count = min(len(points), config.num_points)
    sampled = np.zeros((config.num_points, 3), np.float32)
    sampled[:count] = points[farthest_point_sample(points, count)]
    return points, sampled


def group_indices(points: np.ndarray, in_order: bool) -> tuple[np.ndarray, np.ndarray]:
    """``sample_groups`` of one cloud.

    Args:
        points: (N, 3) float32. in_order: they come from farthest point sampling. Sampled again from the first of them
            they come in the same order, so that nothing has to be computed: 20 ms less on a CPU.

    Returns:
        (N / 2,) and (N / 4,) int64.
    """
    if in_order:
        return np.arange(len(points) // 2), np.arange(len(points) // 4)
    first, second = sample_groups(torch.from_numpy(points)[None])
    return first[0].numpy(), second[0].numpy()


def prepare(observation: Observation, config: MLAConfig) -> MLAInput:
    """Resample, crop and sample an observation, and find its groups, on the host: pruning needs to know them first.

    Raises:
        NotReadyError: too few points in the workspace.
        ValueError: a view or a feature of the robot's state that the policy takes is missing.
    """
    proprio = proprio_vector(observation.state, config.proprio, config.proprio_dim)
    squares = [clip_image(v.image, v.camera, config.image_size) for v in observation.chosen_views(config.views)]
    cameras = {name: camera for name, (_, camera) in zip(config.views, squares)}
    cloud, points = sample_cloud(observation.points, config)
    first, second = group_indices(points, in_order=len(cloud) >= config.num_points)
    return MLAInput(
        image=np.stack([image for image, _ in squares]),
        points=points,
        first=first,
        second=second,
        proprio=proprio,
        layout=token_layout(
            cloud,
            points[first[second]],
            cameras,
            config,
            observation.state.position,
            observation.stamp_ns,
        ),
    )
