"""What only a GPU can show: graphs against kernel by kernel, no waiting for the device, bf16."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mvla_pruned_ros.evaluation.latency.bench import Variant, measure
from mvla_pruned_ros.evaluation.latency.subject import Subject
from mvla_pruned_ros.policy.engine.stage_timer import StageTimer
from mvla_pruned_ros.policy.engine.torch_policy import GRAPH_BUCKET
from mvla_pruned_ros.policy.mla import point_sampling as geometry_torch
from mvla_pruned_ros.policy.mla.presets import MLA_PRESETS
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.runtime import PolicyRuntime
from mvla_pruned_ros.pruning.methods import make_pruner
from mvla_pruned_ros.pruning.types import Selection

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU here: CUDA graphs, events and bf16 kernels need one"
)

CONFIGS: dict[str, Any] = {
    "l1": MVLAConfig(),
    "ddim": dataclasses.replace(MVLAConfig(), head="ddim"),
    "mla": MLA_PRESETS["mla-small"],
}


@pytest.fixture(params=sorted(CONFIGS), scope="module")
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject.random(request.param, CONFIGS[request.param], "cuda", "fp32")


@pytest.fixture
def waiting_is_an_error() -> Iterator[Callable[[], None]]:
    """Call it to make every wait for the device raise until the test is over."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("method", ["none", "tri_stage", "fastv"])
def test_graphs_act_as_kernel_by_kernel(subject: Subject, method: str) -> None:
    chunks = []
    for record in (None, False):
        policy: Any = subject.run_as(recompute=False, record=record)
        policy.token_bucket = GRAPH_BUCKET
        runtime = PolicyRuntime(policy, make_pruner(method, 0.35))
        chunks.append(np.stack([runtime.infer(o).chunk.actions for o in subject.observations(6)]))
    np.testing.assert_allclose(chunks[0], chunks[1], rtol=1e-3, atol=1e-4)


def test_nothing_waits_for_the_device_between_input_and_actions(
    subject: Subject, waiting_is_an_error: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy: Any = subject.run_as(recompute=False, record=None)
    observation = subject.observations(1)[0]
    prepared = policy.prepare(observation)
    full = Selection.full(prepared.layout)
    policy.act(prepared, full, observation.instruction, StageTimer(policy.device))  # records
    waiting = []
    download = policy.accelerator.download

    def last(x: torch.Tensor) -> np.ndarray:
        torch.cuda.set_sync_debug_mode("default")
        waiting.append(x)
        return download(x)

    monkeypatch.setattr(policy.accelerator, "download", last)
    waiting_is_an_error()
    policy.act(prepared, full, observation.instruction, StageTimer(policy.device))
    assert len(waiting) == 1


def test_warm_up_records_what_later_calls_need(subject: Subject) -> None:
    policy: Any = subject.run_as(recompute=False, record=None)
    runtime = PolicyRuntime(policy, make_pruner("tri_stage", 0.35))
    observations = subject.observations(6)
    measured = runtime.warm_up(observations[0], rounds=2)
    assert min(measured.full_ms, measured.pruned_ms) > 0
    kept = [runtime.infer(o).selection.num_kept for o in observations]
    assert all(k % GRAPH_BUCKET == 0 for k in kept[1:]) and policy.late_shapes == 0


def test_farthest_points_are_those_of_the_cpu() -> None:
    points = torch.rand(2, 1024, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(2):  # the second one replays
        picked = geometry_torch.farthest_point_sample(points.cuda(), 256).cpu()
        assert (picked == geometry_torch.farthest_point_sample(points, 256)).float().mean() > 0.99


def test_bf16_acts_nearly_as_fp32() -> None:
    norms = []
    for precision in ("fp32", "auto"):
        subject = Subject.random("l1", CONFIGS["l1"], "cuda", precision)
        policy: Any = subject.policy
        observation = subject.observations(1)[0]
        prepared = policy.prepare(observation)
        output = policy.act(prepared, Selection.full(prepared.layout), observation.instruction, StageTimer())
        norms.append(output.evidence.norm)
    np.testing.assert_allclose(norms[1], norms[0], rtol=0.05)


def test_benchmark_times_by_events_and_reads_memory(subject: Subject) -> None:
    timings = measure(subject, [Variant("none", 1.0), Variant("tri_stage", 0.5)], subject.observations(4), rounds=2)
    for t in timings.values():
        assert t.peak_mib > 0 and all(p > b > 0 for p, b in zip(t.policy, t.backbone))
