"""What is measured on a GPU, in parts that each stand alone: a cut leaves those that are done."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ...models import SHIPPED, policy_folder
from ...policy.engine.device import resolve_device
from ...policy.engine.int8 import check_torchao
from ...policy.engine.stage_timer import StageTimer
from ...policy.fingerprint import policy_fingerprint
from ...policy.mla.presets import MLA_PRESETS
from ...policy.mvla.presets import PRESETS
from ...pruning.methods import METHODS
from ...pruning.tri_stage.config import TriStageConfig
from ...pruning.types import Selection
from ..latency.bench import Lengths, Variant, bench_row, measure, variants
from ..latency.costs import measure_floor
from ..latency.subject import Subject, resized
from ..success.sweep import Setting, run_sweep

CHOOSING = tuple(m for m in METHODS if m not in ("none", "uniform"))
PRECISE_TASKS = ("push", "pick-place", "coffee-push", "peg-unplug-side")

Result: TypeAlias = dict[str, Any]


class CannotRunError(Exception):
    """What a part needs is not here; the message says what."""


@dataclass(frozen=True)
class Setup:
    """What the parts are run on.

    Attributes:
        device: cuda, or cpu to rehearse. tiny: small networks and few calls, which shows that the parts run.
        root: of the source tree, which has the tests.
    """

    device: str
    tiny: bool
    root: Path

    @property
    def rounds(self) -> int:
        """Timed calls per variant."""
        return 3 if self.tiny else 30


@dataclass(frozen=True)
class Part:
    """One entry of the result file. minutes: what it may take on an H200, by which it is put off when time is short."""

    name: str
    minutes: float
    run: Callable[[Setup], Result]


def tests(setup: Setup) -> Result:
    """What only a GPU can show."""
    path = setup.root / "test" / "test_cuda.py"
    if not path.is_file():
        raise CannotRunError(f"{path} is not there: run it from the source tree")
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "--no-header", str(path)]
    done = subprocess.run(command, cwd=setup.root, capture_output=True, text=True, check=False)
    return {"exit_code": done.returncode, "output": done.stdout[-6000:]}


def agreement(setup: Setup) -> Result:
    """Actions of the shipped policies beside those of the CPU in fp32, on the same made-up scenes, all tokens kept.

    ``largest`` and ``median`` are differences in units of the range of an action.
    """
    rows = []
    for name in SHIPPED[:1] if setup.tiny else SHIPPED:
        plain = _actions(Subject.trained(policy_folder(name), "cpu", "fp32"))
        for precision in ("fp32", "auto"):
            subject = Subject.trained(policy_folder(name), setup.device, precision)
            apart = np.abs(_actions(subject) - plain) / np.ptp(plain, axis=(0, 1)).clip(min=1e-6)
            rows.append(
                {
                    "policy": name,
                    "precision": str(subject.dtype).removeprefix("torch."),
                    "largest": float(apart.max()),
                    "median": float(np.median(apart)),
                }
            )
    return {"rows": rows}


def success(setup: Setup) -> Result:
    """Closed loop in simulation with ``small`` on the device: episodes solved, unpruned and pruned."""
    if importlib.util.find_spec("metaworld") is None:
        raise CannotRunError("the simulator is not installed: pip install 'mvla_pruned_ros[sim]'")
    folder = policy_folder("small")
    own, fingerprint, device = (
        TriStageConfig.of_policy(folder),
        policy_fingerprint(folder),
        str(resolve_device(setup.device)),
    )
    settings = [
        Setting(task, str(folder), fingerprint, method, keep, own, device=device)
        for task in PRECISE_TASKS[: 1 if setup.tiny else None]
        for method, keep in (("none", 1.0), ("tri_stage", 0.35))
    ]
    found = run_sweep(settings, range(1 if setup.tiny else 10), 1, lambda setting, episode: None)
    rows = [
        {"task": s.task, "method": s.method, "keep": s.keep, "episodes": len(e), "solved": sum(x.success for x in e)}
        for s, e in found.items()
    ]
    return {"rows": rows}


def latency(name: str, methods: tuple[str, ...] = ("tri_stage",), keeps: tuple[float, ...] = (0.5, 0.35, 0.25)) -> Any:
    """A part that times a preset with random weights, in the device's own precision: kernel by kernel and as graphs."""

    def run(setup: Setup) -> Result:
        subject = _subject(name, setup)
        gpu = subject.policy.device.type == "cuda"
        return _timed(subject, variants(methods, keeps[: 1 if setup.tiny else None], subject.denoises, gpu), setup)

    return run


def trained(name: str) -> Any:
    """A part that times a shipped policy."""

    def run(setup: Setup) -> Result:
        if name not in SHIPPED:
            raise CannotRunError(f"no policy {name!r} is shipped yet")
        subject = Subject.trained(policy_folder(name), setup.device, "auto")
        return _timed(
            subject, variants(["tri_stage"], [0.5, 0.35, 0.25], subject.denoises, setup.device != "cpu"), setup
        )

    return run


def int8(setup: Setup) -> Result:
    """MLA's 7B network with weights in 8 bits."""
    try:
        check_torchao()
    except ValueError as error:
        raise CannotRunError(str(error)) from error
    subject = _subject("mla-7b", setup, "int8")
    rows = _timed(subject, [Variant("none", 1.0), Variant("tri_stage", 0.35)], setup)["rows"]
    return {"rows": [{**row, "precision": "int8 weights"} for row in rows]}


PARTS = (
    Part("tests", 1.5, tests),
    Part("agreement", 0.5, agreement),
    Part("panda", 0.5, trained("panda")),
    Part("medium", 0.4, trained("medium")),
    Part("base", 0.6, latency("base")),
    Part("mla-7b", 2.5, latency("mla-7b")),
    Part("methods, base", 0.8, latency("base", CHOOSING, (0.35,))),
    Part("methods, mla-7b", 2.5, latency("mla-7b", CHOOSING, (0.35,))),
    Part("int8, mla-7b", 1.0, int8),
    Part("success", 2.0, success),
)


def _subject(name: str, setup: Setup, precision: str = "auto") -> Subject:
    config = (PRESETS | MLA_PRESETS)[name]
    if setup.tiny:
        config = MLA_PRESETS["mla-small"] if name in MLA_PRESETS else resized(config, depth=2, image_size=96, groups=16)
    return Subject.random(name, config, setup.device, precision)


def _timed(subject: Subject, todo: list[Variant], setup: Setup) -> Result:
    observations = subject.observations(6 if setup.tiny else 12)
    timings = measure(subject, todo, observations, setup.rounds)
    floor, lengths = measure_floor(subject.policy.device, subject.dtype), Lengths.of(subject, observations[0])
    return {"rows": [bench_row(subject, v, t, timings[todo[0]], lengths, floor) for v, t in timings.items()]}


def _actions(subject: Subject) -> np.ndarray:
    """(calls, chunk, A)."""
    policy, timer = subject.policy, StageTimer(subject.policy.device)
    policy.reset()
    chunks = []
    for observation in subject.observations(6):
        prepared = policy.prepare(observation)
        chunks.append(policy.act(prepared, Selection.full(prepared.layout), observation.instruction, timer).actions)
    return np.stack(chunks)
