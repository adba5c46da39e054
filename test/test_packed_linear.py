"""Packed linear layers against plain ones."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mvla_pruned_ros.policy.engine import packed_linear
from mvla_pruned_ros.policy.engine.executor import Executor
from mvla_pruned_ros.policy.engine.packed_linear import PackedLinear, pack_linears
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.mvla.model import MVLAModel

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("rows", [1, 17, 197])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_layers_give_what_plain_ones_give(rows: int, bias: bool) -> None:
    plain = nn.Linear(256, 320, bias=bias)
    packed = copy.deepcopy(plain)
    pack_linears(packed)
    assert type(packed) is PackedLinear
    x = torch.randn(1, rows, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(packed(x), plain(x), rtol=1e-5, atol=1e-5)
    assert torch.equal(packed(x), plain(x)), "with gradients the plain way is taken"


@pytest.mark.parametrize("threads, width", [(1, 256), (2, 255)])
def test_one_thread_and_small_matrices_gain_nothing(threads: int, width: int) -> None:
    torch.set_num_threads(threads)
    layer = nn.Linear(width, 256)
    pack_linears(layer)
    assert type(layer) is nn.Linear


@pytest.mark.parametrize("head", ["ddim", "l1"])
def test_call_runs_on_packed_layers(head: str) -> None:
    model = MVLAModel(MVLAConfig(width=128, heads=2, mlp_width=512, head=head), 10).requires_grad_(False).eval()
    Executor(model, torch.device("cpu"))
    layer = model.backbone.layers[0]
    assert [type(each) for each in (layer.gate_up, layer.down, layer.out)] == [PackedLinear, PackedLinear, nn.Linear]


def test_weights_are_saved_as_before() -> None:
    layer = nn.Linear(256, 256)
    names = set(layer.state_dict())
    pack_linears(layer)
    assert type(layer) is PackedLinear and set(layer.state_dict()) == names


def gone(*_: Any) -> Tensor:
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")


@pytest.mark.parametrize(
    "product, reason",
    [
        (gone, "does not have oneDNN's packed product any more"),
        (lambda x, *_: torch.zeros(3, 40), "gives a wrong result"),
        (lambda x, *_: torch.zeros(1), "gives a wrong result"),
    ],
)
def test_without_the_private_operations_layers_stay_plain_and_one_line_says_so(
    product: Callable[..., Tensor], reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packed_linear, "_packed_product", product)
    model = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256))
    pack_linears(model)
    assert [type(layer) for layer in model] == [nn.Linear, nn.Linear]
    (record,) = caplog.records
    assert reason in record.getMessage() and "slower" in record.getMessage()
