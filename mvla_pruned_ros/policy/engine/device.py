"""Where a policy runs, and in which numbers."""

from __future__ import annotations

import torch
from torch import nn


def resolve_device(name: str) -> torch.device:
    """``cpu``, ``cuda``, ``cuda:N``, or ``auto`` for cuda where there is one.

    Raises:
        ValueError: no such device here; the message says what to ask for instead.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r} is not a device: use cpu, cuda, cuda:N or auto") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r} is not supported: use cpu, cuda, cuda:N or auto")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ValueError(
            f"device {name!r} was asked for, but torch {torch.__version__} sees {torch.cuda.device_count()} CUDA "
            "devices here: install a CUDA build of torch and a driver, or set device to cpu or auto"
        )
    return device


PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """``fp32``, ``bf16``, ``fp16``, or ``auto`` for bf16 on a GPU and fp32 on the CPU, where bf16 is no faster. With
    ``int8``, which is for MLA policies, what is not in 8 bits is in bf16.

    Raises:
        ValueError: no such precision, or the GPU has no bf16.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision {name!r} is not known: use {', '.join(PRECISIONS)}")
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name in ("bf16", "int8") and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError(
            f"precision {name!r} is not supported by {torch.cuda.get_device_name(device)}: use fp16 or fp32"
        )
    return {"fp32": torch.float32, "fp16": torch.float16}.get(name, torch.bfloat16)


def has_products(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device multiplies in a precision by itself. A CPU that does not emulates it, at about a hundredth of
    the speed of fp32."""
    if device.type == "cuda" or dtype == torch.float32:
        return True
    supported = {
        torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported,
        torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    return bool(dtype in supported and supported[dtype]())


def cast_parameters(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast the weights of a model, in place.

    Buffers stay as they are: noise schedules, wavelengths of positions and rotary frequencies are wrong in 8 bits of
    mantissa. So does batch normalisation, whose kernels take fp32 statistics and weights with any input.
    """
    for module in model.modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)


def set_threads(count: int) -> None:
    """CPU threads of the policy."""
    torch.set_num_threads(count)


def thread_count() -> int:
    """CPU threads of the policy."""
    return torch.get_num_threads()
