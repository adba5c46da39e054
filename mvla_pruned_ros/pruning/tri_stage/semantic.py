"""Stage II: background, robot and object sets, found in space.

The paper clusters patches by attention. A dropped token has no attention, and point tokens are drawn afresh each
frame, so here the clusters are clusters of positions, and attention says which of them matter (ours).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ..types import SemanticSet, TokenLayout
from .config import Lengths


def semantic_sets(layout: TokenLayout, salience: np.ndarray, lengths: Lengths, object_threshold: float) -> np.ndarray:
    """Which part of the scene each visual token shows.

    Robot: within ``lengths.robot`` of the end effector, known from proprio. Of the rest, whatever stands off the
    support surface is linked into things; a thing is an object when the mean salience of its tokens reaches
    ``object_threshold`` times the mean over all tokens, so that a member keeps its protection while its own
    salience is unknown or underrated. Everything else is background.

    Args:
        layout: N tokens. salience: (N,) predicted salience.

    Returns:
        (N,) int8 of ``SemanticSet``.
    """
    positions = layout.positions
    sets = np.full(len(positions), SemanticSet.BACKGROUND, np.int8)
    finite = np.isfinite(positions)
    located = finite[:, 0] & finite[:, 1] & finite[:, 2]
    x, y, z = (positions - layout.end_effector).T
    robot = located & (np.sqrt(x * x + y * y + z * z) <= lengths.robot)
    sets[robot] = SemanticSet.ROBOT
    rest = np.flatnonzero(located & ~robot)
    if len(rest) == 0:
        return sets
    pairs = cKDTree(positions[rest]).query_pairs(lengths.link, output_type="ndarray")
    thing, values = linked(len(rest), pairs), salience[rest]
    mean = np.bincount(thing, values)[thing] / np.bincount(thing)[thing]
    sets[rest[mean >= object_threshold * salience.mean()]] = SemanticSet.OBJECT
    return sets


def linked(count: int, pairs: np.ndarray) -> np.ndarray:
    """(count,) int64: for each member the smallest one that it is linked to through (P, 2) ``pairs``, itself if none.

    scipy's connected_components does the same; building its sparse matrix takes five times as long as this.
    """
    first, second = pairs[:, 0], pairs[:, 1]
    root = np.arange(count)
    while True:
        a, b = root[first], root[second]
        apart = a != b
        if not apart.any():
            return root
        first, second, a, b = first[apart], second[apart], a[apart], b[apart]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))  # roots only, and downwards: no circle can arise
        while True:
            further = root[root]
            if (further == root).all():
                break
            root = further


def unique_points(layout: TokenLayout, salience: np.ndarray) -> np.ndarray:
    """Point tokens that tell what no well-attended patch tells already.

    A point token *overlaps* when its centre projects on a patch of at least mean image salience in some view; otherwise
    (occluded patch, off the images, or a patch nobody looks at) what it says is *unique* (paper, stage II).

    Args:
        layout: N2 image and N3 point tokens. salience: (N2 + N3,).

    Returns:
        (N3,) bool.
    """
    image = salience[: layout.num_image]
    patches = layout.point_patches
    return ((patches < 0) | (image[patches] < image.mean())).all(0)
