"""Functions of tensors that are recorded once per shape and replayed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mvla_pruned_ros.policy.engine.accelerator import Accelerator, Work
from mvla_pruned_ros.policy.engine.recorded_call import RecordedCall


def recorded(function: Callable[..., tuple[Tensor, ...]], accelerator: Accelerator | None = None) -> RecordedCall:
    return RecordedCall(lambda fixed, *inputs: function(*inputs), accelerator or Accelerator())


def test_recorded_call_gives_what_the_plain_call_gives_and_keeps_its_buffers() -> None:
    call = recorded(lambda a, b: (a @ b, a.sum()))
    g = torch.Generator().manual_seed(1)
    for n in (4, 6, 4, 4):
        a, b = torch.rand(n, 3, generator=g), torch.rand(3, n, generator=g)
        product, total = call(None, (a, b))
        assert torch.equal(product, a @ b) and torch.equal(total, a.sum())
    assert [shapes[0][0] for _, shapes in call.recorded] == [(4, 3), (6, 3)]
    held = call._recordings[call.recorded[0]].inputs[0]
    assert torch.equal(held, a), "inputs are copied into the buffers of their shape"


def test_what_is_fixed_has_recordings_of_its_own() -> None:
    call = RecordedCall(lambda factor, a: (a * factor,), Accelerator())
    assert [float(call(f, (torch.ones(1),))[0]) for f in (2.0, 3.0, 2.0)] == [2.0, 3.0, 2.0]
    assert [fixed for fixed, _ in call.recorded] == [2.0, 3.0]


def test_buffers_serve_inside_and_outside_of_inference_mode() -> None:
    call = recorded(lambda a: (a * 2,))
    with torch.inference_mode():
        assert call(None, (torch.ones(3),))[0].sum() == 6
    assert call(None, (torch.full((3,), 2.0),))[0].sum() == 12
    with torch.inference_mode():
        assert call(None, (torch.full((3,), 3.0),))[0].sum() == 18


def test_shapes_met_after_warm_up_are_reported() -> None:
    call = recorded(lambda a: (a * 2,))
    call(None, (torch.ones(4),))
    call.seal()
    call(None, (torch.ones(4),))
    assert call.late == []
    call(None, (torch.ones(5),))
    call(None, (torch.ones(5),))
    assert [shapes[0][0] for _, shapes in call.late] == [(5,)]


def test_recording_that_failed_is_tried_again() -> None:
    """A device may have been short of memory just then: the shape must not be run without a graph for ever."""

    class ShortOfMemoryOnce(Accelerator):
        attempts = 0

        def record(self, work: Work) -> tuple[Work, tuple[Tensor, ...]]:
            self.attempts += 1
            if self.attempts == 1:
                raise torch.cuda.OutOfMemoryError("made to run out of memory")
            return super().record(work)

    accelerator = ShortOfMemoryOnce()
    call, values = recorded(lambda a: (a * 2,), accelerator), torch.ones(3)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        call(None, (values,))
    assert call.recorded == []
    call(None, (values,))
    call(None, (values,))
    assert accelerator.attempts == 2 and len(call.recorded) == 1
