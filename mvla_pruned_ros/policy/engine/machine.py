"""What a figure was measured on, and by which command."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """CPU model and the vector instructions that torch uses there, cores this process may use, versions of Python and
    torch. Some clouds give processors with and without AVX-512 one name."""
    import torch

    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = f"{model} ({torch.backends.cpu.get_cpu_capability()})"
    return {"cpu": model, "cores": cores, "python": platform.python_version(), "torch": torch.__version__}


def command_line() -> str:
    """The ``mvla`` command that this process runs."""
    return shlex.join(["mvla", *sys.argv[1:]])
