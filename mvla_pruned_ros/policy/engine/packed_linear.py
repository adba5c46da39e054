"""Linear layers with weights in oneDNN's own layout, for several threads on a CPU.

MKL copies a matrix into its own layout for each product, which takes longer than the product itself when there are few
rows, as in a denoising step. Packed once, two threads are 1.8 to 2.3 times as fast at 17 rows, 1.1 to 1.4 at 197 and no
slower at 541 (widths 384 and 1024, AMD EPYC without AVX-512); with AVX-512 1.0 to 1.2 times at 167 to 557 rows of width
256. Matrices of fewer than ``LEAST`` weights gain nothing. One thread gains less at few rows and loses a tenth at many,
so there nothing is packed.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

LEAST = 2**16
ROWS = 32  # that oneDNN lays the matrix out for; those for 17 and for 197 are equally fast

_log = logging.getLogger(__name__)


class PackedLinear(nn.Linear):
    """An ``nn.Linear`` with a packed copy of its weights, equal to float tolerance. Gradients take the plain way."""

    packed: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if torch.is_grad_enabled() or x.dtype != torch.float32:
            return nn.functional.linear(x, self.weight, self.bias)
        return _packed_product(x, self.packed, self.bias)


def pack_linears(model: nn.Module) -> None:
    """Make the fp32 linear layers of a model that is on the CPU, there to stay, packed ones, when that pays.

    It does with more than one thread and large matrices. Takes the memory of these weights once more. What is packed
    already is left alone. The operations of torch that it needs are private ones: where they are gone or wrong, nothing
    is packed, and one line of the log says so.
    """
    if torch.get_num_threads() < 2 or not torch.backends.mkldnn.is_available():
        return
    if reason := _unfit():
        _log.warning("linear layers stay as they are, which is slower: %s", reason)
        return
    for layer in model.modules():
        if (
            type(layer) is nn.Linear
            and type(layer.weight) is nn.Parameter
            and layer.weight.device.type == "cpu"
            and layer.weight.dtype == torch.float32
            and layer.weight.numel() >= LEAST
        ):
            packed = _pack(layer.weight)
            layer.__class__ = PackedLinear
            object.__setattr__(layer, "packed", packed)  # no buffer: it is not moved or saved with the module


def _pack(weight: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)


def _packed_product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


@torch.no_grad()
def _unfit() -> str:
    """Why the private operations cannot be used with this torch; empty where they can."""
    x, weight, bias = torch.linspace(-1, 1, 96).view(3, 32), torch.linspace(-1, 1, 1280).view(40, 32), torch.ones(40)
    try:
        got = _packed_product(x, _pack(weight), bias)
    except (AttributeError, RuntimeError, TypeError) as error:
        return f"torch {torch.__version__} does not have oneDNN's packed product any more ({error})"
    if got.shape == (3, 40) and torch.allclose(got, nn.functional.linear(x, weight, bias), rtol=1e-4, atol=1e-4):
        return ""
    return f"oneDNN's packed product gives a wrong result with torch {torch.__version__}"
