"""What a call does on a device that is not the host, shown without one.

On torch's ``meta`` device a tensor has a shape and no values: an operation on a tensor of the host, a value that is
read back, or a shape that depends on values raises there, where a GPU would wait or fail. What only a GPU can show,
that CUDA records and replays such a call, is in test_cuda.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mvla_pruned_ros.evaluation.latency.subject import Subject
from mvla_pruned_ros.policy.engine import accelerator as seam
from mvla_pruned_ros.policy.engine import packed_linear
from mvla_pruned_ros.policy.engine.accelerator import Accelerator, Work
from mvla_pruned_ros.policy.engine.executor import Executor
from mvla_pruned_ros.policy.mla.presets import MLA_PRESETS
from mvla_pruned_ros.policy.mvla.presets import PRESETS
from mvla_pruned_ros.policy.runtime import PolicyRuntime
from mvla_pruned_ros.pruning.methods import METHODS, make_pruner
from mvla_pruned_ros.types import Observation

META = torch.device("meta")
CONFIGS: dict[str, Any] = {
    "small": PRESETS["small"],
    "ddim": dataclasses.replace(PRESETS["small"], head="ddim", ddim_steps=2),
    "panda": PRESETS["panda"],
    "mla": MLA_PRESETS["mla-small"],
}


class Recorder(Accelerator):
    """Notes in order what the host does with the device, and answers with numbers."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def upload(self, x: Tensor) -> Tensor:
        assert x.device.type == "cpu"
        self.log.append("upload")
        return x.to(META)

    def download(self, x: Tensor) -> np.ndarray:
        assert x.device == META and x.ndim == 1
        self.log.append("download")
        return np.arange(len(x), dtype=np.float32)[::-1]  # what a rule chose comes last: indices that there are

    def record(self, work: Work) -> tuple[Work, tuple[Tensor, ...]]:
        self.log.append("record")
        outputs = work()

        def replay() -> tuple[Tensor, ...]:
            self.log.append("replay")
            return outputs

        return replay, outputs


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    made = Recorder()
    monkeypatch.setitem(seam._KINDS, "meta", lambda device: made)
    seam.accelerator.cache_clear()
    yield made
    seam.accelerator.cache_clear()


@functools.cache
def shown(name: str) -> tuple[Any, list[tuple[Observation, Any]]]:
    """A policy, and observations that it has made ready."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_linear, "_unfit", lambda: "it is to leave the host")
        subject = Subject.random(name, CONFIGS[name], "cpu", "fp32")
    return subject.policy, [(o, subject.policy.prepare(o)) for o in subject.observations(5)]


def moved(name: str, record: bool) -> tuple[Any, list[tuple[Observation, Any]]]:
    """The policy with a network that has no values any more, and what it is shown."""
    policy, observations = shown(name)
    policy = copy.copy(policy)
    policy.model, policy.device = copy.deepcopy(policy.model).to(META), META
    policy._executor = Executor(policy.model, META, record=record)
    policy.accelerator = policy._executor.accelerator
    return policy, observations


# All methods on the two architectures; the others differ in their head and in the number of their views.
CALLS = [(name, m) for name in ("small", "mla") for m in sorted(METHODS)]
CALLS += [(name, m) for name in ("ddim", "panda") for m in ("tri_stage", "fastv")]


@pytest.mark.parametrize("name, method", CALLS)
def test_no_call_reads_a_value_before_its_one_copy_to_the_host(name: str, method: str, recorder: Recorder) -> None:
    policy, observations = moved(name, record=False)
    runtime = PolicyRuntime(policy, make_pruner(method, 0.35))
    for observation, prepared in observations[: 5 if method == "vla_pruner" else 3]:  # whose first three are full
        recorder.log.clear()
        runtime.infer(observation, prepared)
        assert recorder.log.count("download") == 1 and recorder.log[-1] == "download"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_calls_of_one_shape_are_recorded_once_and_replayed(method: str, recorder: Recorder) -> None:
    """Also those with a rule inside, so that a comparison on a GPU flatters nobody; less what keeps tensors between
    calls or lets a number of tokens go that depends on them."""
    policy, observations = moved("small", record=True)
    runtime = PolicyRuntime(policy, make_pruner(method, 0.35))
    for observation, prepared in observations * 2:
        runtime.infer(observation, prepared)
    if method in ("specprune", "vla_cache"):
        assert not {"record", "replay"} & set(recorder.log)
    else:
        assert recorder.log.count("record") <= 6 < recorder.log.count("replay") + 2
        assert recorder.log.count("download") == len(observations) * 2
