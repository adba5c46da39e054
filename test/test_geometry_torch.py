"""Sampling on tensors beside that on arrays."""

from __future__ import annotations

import pytest
import torch

from mvla_pruned_ros.geometry import clouds as geometry
from mvla_pruned_ros.policy.mla import point_sampling as geometry_torch


def clouds(batch: int = 3, count: int = 400) -> torch.Tensor:
    return torch.rand(batch, count, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.9, 0.6, 0.4])


@pytest.mark.parametrize("count", [1, 64, 256])
def test_farthest_points_are_those_of_the_array_version(count: int) -> None:
    points = clouds()
    picked = geometry_torch.farthest_point_sample(points, count)
    for one, cloud in zip(picked, points):
        assert one.tolist() == geometry.farthest_point_sample(cloud.numpy(), count).tolist()


def test_farthest_points_from_a_given_start_are_farthest() -> None:
    points = clouds(2, 50)
    picked = geometry_torch.farthest_point_sample(points, 10, start=torch.tensor([0, 7]))
    assert picked[:, 0].tolist() == [0, 7]
    for one, cloud in zip(picked.tolist(), points):
        for i in range(1, 10):
            apart = torch.cdist(cloud, cloud[one[:i]]).amin(1)
            assert apart[one[i]] == apart.max()


def test_farthest_points_repeat_when_there_are_too_few() -> None:
    picked = geometry_torch.farthest_point_sample(clouds(1, 2), 5)[0].tolist()
    assert picked == (picked[:2] * 3)[:5] and picked[0] != picked[1]
