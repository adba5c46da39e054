"""Sampling on tensors beside that on arrays, and functions that run through static buffers."""

from __future__ import annotations

import pytest
import torch

from mvla_pruned_ros.geometry import clouds as geometry
from mvla_pruned_ros.policy.engine.cuda_graph import StaticCall
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


def test_static_call_gives_what_the_plain_call_gives_and_keeps_its_buffers() -> None:
    call = StaticCall(lambda a, b: (a @ b, a.sum()))
    g = torch.Generator().manual_seed(1)
    for n in (4, 6, 4, 4):
        a, b = torch.rand(n, 3, generator=g), torch.rand(3, n, generator=g)
        product, total = call(a, b)
        assert torch.equal(product, a @ b) and torch.equal(total, a.sum())
    assert [key[0][0] for key in call.recorded] == [(4, 3), (6, 3)]
    held = call._recordings[call.recorded[0]].inputs[0]
    assert torch.equal(held, a), "inputs are copied into the buffers of their shape"


def test_buffers_serve_inside_and_outside_of_inference_mode() -> None:
    call = StaticCall(lambda a: (a * 2,))
    with torch.inference_mode():
        assert call(torch.ones(3))[0].sum() == 6
    assert call(torch.full((3,), 2.0))[0].sum() == 12
    with torch.inference_mode():
        assert call(torch.full((3,), 3.0))[0].sum() == 18


def test_shapes_met_after_warm_up_are_reported() -> None:
    call = StaticCall(lambda a: (a * 2,))
    call(torch.ones(4))
    call.seal()
    call(torch.ones(4))
    assert call.late == []
    call(torch.ones(5))
    call(torch.ones(5))
    assert [key[0][0] for key in call.late] == [(5,)]


def test_capture_that_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device may have been short of memory just then: the shape must not be run without a graph for ever."""

    class OnGpu(torch.Tensor):
        is_cuda = True

    attempts: list[int] = []

    def capture(call: StaticCall, recording: object) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise torch.cuda.OutOfMemoryError("made to run out of memory")

    monkeypatch.setattr(StaticCall, "_capture", capture)
    call, values = StaticCall(lambda a: (a * 2,)), torch.ones(3).as_subclass(OnGpu)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        call(values)
    assert call.recorded == []
    call(values)
    call(values)
    assert len(attempts) == 2 and len(call.recorded) == 1
