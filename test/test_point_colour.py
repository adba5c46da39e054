"""Point groups with the colour of the image where they are seen."""

from __future__ import annotations

import numpy as np
import torch

from mvla_pruned_ros.policy.mvla.preprocess import group_colours
from mvla_pruned_ros.policy.mvla.tokenizers import PointTokenizer
from mvla_pruned_ros.types import CameraModel

SIZE = 40


def camera(position: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> CameraModel:
    """Looks along z; a metre away, a pixel is 2.5 cm wide."""
    pose = np.eye(4)
    pose[:3, 3] = position
    return CameraModel(SIZE, SIZE, SIZE, SIZE, SIZE / 2, SIZE / 2, pose)


def test_a_group_has_the_mean_colour_around_its_centre_in_the_first_view_that_shows_it() -> None:
    first, second = np.zeros((SIZE, SIZE, 3), np.uint8), np.full((SIZE, SIZE, 3), 7, np.uint8)
    first[10:20, 20:30] = 200, 100, 50
    first[12, 22] = 0, 0, 0  # one of the 25 pixels around (22, 12)
    centres = np.array(
        [
            [(24 + 0.5 - 20) / SIZE, (14 + 0.5 - 20) / SIZE, 1.0],  # all of its pixels are of one colour, but one
            [(35 + 0.5 - 20) / SIZE, 0.0, 1.0],  # black
            [2.0, 0.0, 1.0],  # beside the first view, in the second
            [9.0, 9.0, 1.0],  # in none
            [0.0, 0.0, -1.0],  # behind both
        ]
    )
    colours = group_colours(centres, [(first, camera()), (second, camera((2.0, 0.0, 0.0)))])
    assert colours.dtype == np.uint8
    assert colours.tolist() == [[192, 96, 48], [0, 0, 0], [7, 7, 7], [128, 128, 128], [128, 128, 128]]


def test_pixels_at_the_edge_stand_for_those_beyond_it() -> None:
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[0, 0] = 250
    corner = np.array([[(0.5 - 20) / SIZE, (0.5 - 20) / SIZE, 1.0]])
    assert group_colours(corner, [(image, camera())]).tolist() == [[90, 90, 90]]  # 9 of 25


def test_a_token_depends_on_its_own_colour_alone() -> None:
    torch.manual_seed(0)
    tokenizer = PointTokenizer(16, 0.05, colour=True)
    centres, groups, hand = torch.rand(1, 5, 3), torch.rand(1, 5, 4, 3) * 0.05, torch.rand(1, 3)
    colours = torch.randint(0, 256, (1, 5, 3), dtype=torch.uint8)
    other = colours.clone()
    other[0, 2] = 255 - other[0, 2]
    one, two = (tokenizer(centres, groups, hand, None, c) for c in (colours, other))
    assert [bool((one[0, i] == two[0, i]).all()) for i in range(5)] == [True, True, False, True, True]
    kept = torch.tensor([[1, 2, 4]])
    torch.testing.assert_close(tokenizer(centres, groups, hand, kept, colours), one[:, kept[0]])
