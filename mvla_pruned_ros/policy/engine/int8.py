"""Matrices in 8 bits, for networks that do not fit into memory otherwise. torchao does it."""

from __future__ import annotations

import importlib.util
import logging
import warnings

from torch import nn


def check_torchao() -> None:
    """Raises ValueError with the remedy where torchao is not installed."""
    if importlib.util.find_spec("torchao") is None:
        raise ValueError("precision 'int8' needs torchao: pip install 'mvla_pruned_ros[int8]', or use bf16")


def to_int8(module: nn.Module) -> nn.Module:
    """Its linear layers with weights in 8 bits and a scale for each row, in place; activations stay as they are.

    Twice as many bits are read from memory in bf16, so a denoising step, which waits for weights, may gain as well.
    """
    logging.getLogger("torchao").setLevel(logging.ERROR)  # tells at import which of its kernels are not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization import Int8WeightOnlyConfig, quantize_  # type: ignore[import-not-found]

        quantize_(module, Int8WeightOnlyConfig(version=2))
    return module
