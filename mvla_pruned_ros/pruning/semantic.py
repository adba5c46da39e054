"""Stage II: background, robot and object sets, found in space.

The paper clusters patches by attention. A dropped token has no attention, and point tokens are drawn afresh each
frame, so here the clusters are clusters of positions, and attention says which of them matter (ours).
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from .types import SemanticSet, TokenLayout

LINK_M = 0.06  # tokens nearer than this belong to one thing; patches and point groups are a few centimetres apart


def semantic_sets(
    layout: TokenLayout, salience: np.ndarray, robot_radius_m: float, object_threshold: float
) -> np.ndarray:
    """Which part of the scene each visual token shows.

    Robot: within ``robot_radius_m`` of the end effector, known from proprio. Of the rest, whatever stands off the
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
    located = np.isfinite(positions).all(1)
    robot = located & (np.linalg.norm(positions - layout.end_effector, axis=1) <= robot_radius_m)
    sets[robot] = SemanticSet.ROBOT
    rest = np.flatnonzero(located & ~robot)
    if len(rest) == 0:
        return sets
    pairs = cKDTree(positions[rest]).query_pairs(LINK_M, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(rest), len(rest)))
    count, thing = connected_components(graph, directed=False)
    mean = np.bincount(thing, salience[rest], count) / np.bincount(thing, minlength=count)
    sets[rest[mean[thing] >= object_threshold * salience.mean()]] = SemanticSet.OBJECT
    return sets


def unique_points(layout: TokenLayout, salience: np.ndarray) -> np.ndarray:
    """Point tokens that tell what no well-attended patch tells already.

    A point token *overlaps* when its centre projects on a patch of at least mean image salience; otherwise
    (occluded patch, off the image, or a patch nobody looks at) what it says is *unique* (paper, stage II).

    Args:
        layout: N2 image and N3 point tokens. salience: (N2 + N3,).

    Returns:
        (N3,) bool.
    """
    image = salience[: layout.num_image]
    patch = layout.point_patch
    return (patch < 0) | (image[patch] < image.mean())
