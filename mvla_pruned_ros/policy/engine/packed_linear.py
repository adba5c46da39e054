"""Linear layers with weights in oneDNN's own layout, for several threads on a CPU.

A denoising step runs 17 tokens through every matrix. MKL copies a matrix into its own layout for each product, which
takes longer than the product itself when there are so few rows; packed once, two threads are 1.8 to 2.3 times as fast
at 17 rows, 1.1 to 1.4 at 197 and no slower at 541 (widths 384 and 1024, AMD EPYC). One thread gains less at few rows
and loses a tenth at many, so there nothing is packed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS = 32  # that oneDNN lays the matrix out for; those for 17 and for 197 are equally fast


class PackedLinear(nn.Linear):
    """An ``nn.Linear`` with a packed copy of its weights, equal to float tolerance. Gradients take the plain way."""

    packed: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if torch.is_grad_enabled() or x.dtype != torch.float32:
            return nn.functional.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


def pack_linears(model: nn.Module) -> None:
    """Make the fp32 linear layers of a model that is on the CPU, there to stay, packed ones, when that pays.

    It does with more than one thread. Takes the memory of the weights once more. What is packed already is left alone.
    """
    if torch.get_num_threads() < 2 or not torch.backends.mkldnn.is_available():
        return
    for layer in model.modules():
        if type(layer) is nn.Linear and layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32:
            with torch.no_grad():
                packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
            layer.__class__ = PackedLinear
            object.__setattr__(layer, "packed", packed)  # no buffer: it is not moved or saved with the module
