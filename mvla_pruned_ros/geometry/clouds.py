"""Point clouds: from depth, cropped, thinned, sampled, grouped. Open3D thins where voxels are too many to count."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ..types import CameraModel

DENSE_CELLS = 2**20  # a voxel grid of up to so many cells is counted cell by cell


def depth_to_points(depth: np.ndarray, camera: CameraModel) -> np.ndarray:
    """Back-project a depth image.

    Open3D's ``create_from_depth_image``, rounded to float32, in less than half of its time: plane by plane, no point on
    its own. (Its tensor version runs in parallel and returns the points in a random order.)

    Args:
        depth: (H, W) float32, metres along the optical axis; 0, NaN and Inf mean no reading.
        camera: model for images of this size.

    Returns:
        (N, 3) float32 points in the base frame, one per valid pixel, row by row; each axis contiguous in memory.

    Raises:
        ValueError: the camera model is for another image size.
    """
    if depth.shape != (camera.height, camera.width):
        raise ValueError(
            f"depth image is {depth.shape[1]} x {depth.shape[0]}, camera model {camera.width} x {camera.height}"
        )
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    z = depth.astype(np.float64)
    points = np.empty((3, *depth.shape), np.float32)
    with np.errstate(invalid="ignore"):  # infinite times zero, left out below
        for axis, (right, down, ahead, origin) in zip(points, camera.base_from_camera):
            plane = np.add.outer(y * down + ahead, x * right)
            plane *= z
            plane += origin
            axis[...] = plane
    flat, valid = points.reshape(3, -1), ((depth > 0) & (depth < np.inf)).ravel()
    return flat.T if valid.all() else flat.compress(valid, 1).T


def crop(points: np.ndarray, lower: tuple[float, ...], upper: tuple[float, ...]) -> np.ndarray:
    """Finite points inside the box.

    Args:
        points: (N, 3) metres. lower, upper: corners of the box, same frame.

    Returns:
        (M, 3), order kept; each axis contiguous in memory.
    """
    inside = np.ones(len(points), bool)
    # Axis by axis, each contiguous: ten times as fast as comparing the whole array, on the cloud of a depth image.
    axes = np.ascontiguousarray(points.T)
    for axis, low, high in zip(axes, np.asarray(lower, points.dtype), np.asarray(upper, points.dtype)):
        inside &= axis >= low  # NaN compares false, so this drops non-finite points as well
        inside &= axis <= high
    return axes.compress(inside, 1).T


def whereabouts(points: np.ndarray) -> str:
    """Where (N, 3) points lie, in words: how many, median, and the box around all but the outermost hundredths."""
    if not len(points):
        return "the cloud has no point"
    some = points[:: max(1, len(points) // 10_000)]  # are enough
    low, middle, high = np.percentile(some, [1, 50, 99], axis=0)

    def text(xyz: np.ndarray) -> str:
        return "(" + ", ".join(f"{value:.2f}" for value in xyz) + ")"

    return f"{len(points)} points of the cloud lie around {text(middle)}, from {text(low)} to {text(high)} m"


def voxel_grid(points: np.ndarray, voxel_size: float) -> np.ndarray:
    """Thin a cloud to one point (the mean) per occupied voxel.

    Open3D holds the interpreter while it thins (9 ms for 220 000 points), and commands of the same process wait for it.
    So a grid of no more than ``DENSE_CELLS``, as that of any workspace is, is counted with numpy, bit for bit the same.

    Args:
        points: (N, 3) finite, metres. voxel_size: edge in metres, 0 leaves the cloud as it is.

    Returns:
        (M, 3) float32, in lexicographic order, so that equal clouds give equal arrays.
    """
    if voxel_size <= 0 or len(points) == 0:
        return np.asarray(points, np.float32)
    axes = np.asarray(points.T, np.float64, order="C")
    cell = (axes - (axes.min(1) - voxel_size * 0.5)[:, None]) / voxel_size
    cell = cell.astype(np.int64)  # rounds down: they are positive
    size = cell.max(1) + 1
    if np.prod(size, dtype=np.float64) <= DENSE_CELLS:
        index = (cell[0] * size[1] + cell[1]) * size[2] + cell[2]
        count = np.bincount(index)
        full = np.flatnonzero(count)
        thin = np.stack([np.bincount(index, axis)[full] / count[full] for axis in axes], 1).astype(np.float32)
    else:
        # Here and not above: it takes a second and 170 MB, and few workspaces need it. The example that a policy is
        # warmed up on fills its workspace, so this is not loaded while a robot moves.
        import open3d as o3d

        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(axes.T))
        thin = np.asarray(cloud.voxel_down_sample(voxel_size).points).astype(np.float32)
    return thin[_lexicographic(thin)]


def _lexicographic(points: np.ndarray) -> np.ndarray:
    """``np.lexsort(points.T)`` of (N, 3) finite float32, in a quarter of its time: sorts by z and y packed into one
    number, and asks lexsort itself only where two points agree in both."""
    bits = (points.T + np.float32(0)).view(np.int32).astype(np.int64)  # no -0.0, which equals 0.0
    ordered = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)  # as the floats are
    key = (ordered[2] << 32) + ordered[1]
    order = np.argsort(key, kind="stable")
    key = key[order]
    return np.lexsort(points.T) if (key[1:] == key[:-1]).any() else order


def farthest_point_sample(points: np.ndarray, count: int) -> np.ndarray:
    """Spread-out subset, starting from the point farthest from the centroid (deterministic).

    Args:
        points: (N, 3), N >= 1. count: how many.

    Returns:
        (count,) int64 indices; when N < count they repeat from the start.
    """
    picked = np.empty(min(count, len(points)), np.int64)
    xyz = np.ascontiguousarray(points.T)
    picked[0] = ((points - points.mean(0)) ** 2).sum(1).argmax()
    nearest = np.full(len(points), np.inf, points.dtype)
    apart = np.empty_like(xyz)
    for i in range(1, len(picked)):
        # Few calls: each lets the interpreter go, and has to get it back from the other threads of a node.
        np.subtract(xyz, points[picked[i - 1]][:, None], out=apart)
        np.multiply(apart, apart, out=apart)
        apart[0] += apart[1]
        apart[0] += apart[2]
        np.minimum(nearest, apart[0], out=nearest)
        picked[i] = nearest.argmax()
    return np.resize(picked, count)


def group_neighbours(points: np.ndarray, centres: np.ndarray, count: int) -> np.ndarray:
    """The nearest points around each centre.

    Args:
        points: (N, 3), N >= 1. centres: (G, 3). count: neighbours per centre.

    Returns:
        (G, count, 3) positions relative to the centre, nearest first; repeats when N < count.
    """
    take = min(count, len(points))
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)  # for so few queries it is made sooner
    nearest = tree.query(centres, take)[1].reshape(len(centres), take)
    return points[nearest[:, np.arange(count) % take]] - centres[:, None]
