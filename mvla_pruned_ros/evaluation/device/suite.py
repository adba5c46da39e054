"""Runs the parts, saves each as soon as it is done, goes on where it was stopped."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ...configuration.files import write_json
from ...policy.engine.accelerator import accelerator
from ...policy.engine.device import resolve_device
from ...policy.engine.machine import machine
from .parts import PARTS, CannotRunError, Part, Setup

# What became of a part. Only ``done`` is not run again.
DONE, CANNOT, FAILED, NO_TIME = "done", "cannot run here", "failed", "no time left"


def read_results(path: Path) -> dict[str, Any]:
    """What is in a result file; empty where there is none.

    Raises:
        ValueError: it is something else.
    """
    if not path.exists():
        return {"parts": {}}
    try:
        content = json.loads(path.read_text())
        if not isinstance(content["parts"], dict):
            raise ValueError("parts is not an object")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a result file of `mvla gpu`: {error}") from error
    return content


def run_suite(
    setup: Setup, path: Path, minutes: float, say: Callable[[str], None] = print, parts: Sequence[Part] = PARTS
) -> dict[str, Any]:
    """Run what is not done yet.

    Args:
        path: result file, of this device: {"machine": ..., "parts": {name: {"state", "seconds", ...}}}.
        minutes: a part that may take more than what is left of them is put off. say: is told how it goes.

    Raises:
        ValueError: the file holds results of another device or size.
    """
    device = resolve_device(setup.device)
    here = {**machine(), "device": accelerator(device).name, "tiny": setup.tiny}
    content = read_results(path)
    there = content.setdefault("machine", here)
    for name in ("device", "tiny"):
        if there[name] != here[name]:
            raise ValueError(f"{path} is of {name} {there[name]!r}, this is {here[name]!r}: choose another --out")
    end = time.monotonic() + 60 * minutes
    for number, part in enumerate(parts, 1):
        if content["parts"].get(part.name, {}).get("state") == DONE:
            say(f"{number}/{len(parts)} {part.name}: done before")
            continue
        began = time.monotonic()
        left = (end - began) / 60
        if left < part.minutes:
            reason = f"{left:.1f} minutes are left, it may take {part.minutes:g}"
            entry: dict[str, Any] = {"state": NO_TIME, "reason": reason}
        else:
            say(f"{number}/{len(parts)} {part.name} ...")
            entry = _result(part, setup)
            entry["seconds"] = round(time.monotonic() - began, 1)
        content["parts"][part.name] = entry
        write_json(path, content)
        say(
            f"{number}/{len(parts)} {part.name}: {entry['state']}"
            + (f" ({entry['reason']})" if "reason" in entry else "")
        )
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return content


def _result(part: Part, setup: Setup) -> dict[str, Any]:
    try:
        return {"state": DONE, **part.run(setup)}
    except CannotRunError as error:
        return {"state": CANNOT, "reason": str(error)}
    except Exception as error:  # whatever it is, the other parts are still worth measuring
        return {"state": FAILED, "reason": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
