"""One call of a model: recorded and replayed, in other numbers, timed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mvla_pruned_ros.policy.engine.device import cast_parameters, resolve_precision
from mvla_pruned_ros.policy.engine.stage_timer import StageTimer
from mvla_pruned_ros.policy.mvla.checkpoint import load_policy_parts
from mvla_pruned_ros.policy.mvla.model import MVLAModel
from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
from mvla_pruned_ros.policy.runtime import PolicyRuntime, WarmUp
from mvla_pruned_ros.pruning.base import token_budget
from mvla_pruned_ros.pruning.methods import make_pruner
from mvla_pruned_ros.pruning.tri_stage.pruner import TriStagePruner
from mvla_pruned_ros.pruning.types import Selection, TokenLayout
from mvla_pruned_ros.types import Observation

MakeObservation = Callable[..., Observation]


def policies(folder: Path, head: str, **changes: object) -> tuple[MVLAPolicy, MVLAPolicy]:
    """The same weights twice: as they come, and with ``changes``."""
    made = []
    for options in ({}, changes):
        torch.manual_seed(0)
        loaded, tokenizer, normalization = load_policy_parts(folder)
        config = dataclasses.replace(loaded.config, head=head)
        model = MVLAModel(config, tokenizer.size).eval().requires_grad_(False)
        made.append(MVLAPolicy(model, tokenizer, normalization, **options))  # type: ignore[arg-type]
    return made[0], made[1]


def actions(policy: MVLAPolicy, method: str, observation: MakeObservation, calls: int = 4) -> np.ndarray:
    runtime = PolicyRuntime(policy, make_pruner(method, 0.35))
    return np.stack([runtime.infer(observation(seed)).chunk.actions for seed in range(calls)])


@pytest.mark.parametrize("head", ["l1", "ddim"])
@pytest.mark.parametrize("method", ["none", "tri_stage", "fastv", "divprune"])
def test_recorded_call_gives_the_plain_call_bit_for_bit(
    head: str, method: str, tiny_policy_folder: Path, observation: MakeObservation
) -> None:
    plain, static = policies(tiny_policy_folder, head, record=True)
    np.testing.assert_array_equal(
        actions(static, method, observation), actions(plain, method, observation), strict=True
    )


def test_one_recording_serves_all_calls_with_as_many_tokens(
    tiny_policy_folder: Path, observation: MakeObservation
) -> None:
    """However they are split between image and points; another keep ratio after warm-up is reported."""
    _, policy = policies(tiny_policy_folder, "l1", record=True)
    runtime = PolicyRuntime(policy, make_pruner("tri_stage", 0.35))
    runtime.warm_up(observation(), rounds=1)
    splits = {len(runtime.infer(observation(seed)).selection.image_kept) for seed in range(6)}
    assert len(splits) > 2, "the split must vary for this test to mean anything"
    assert policy.late_shapes == 0
    runtime.pruner.keep_ratio = 0.25
    runtime.infer(observation(7))
    assert policy.late_shapes == 1


def layout_of(count: int) -> TokenLayout:
    points = np.zeros((count - 1, 3))
    patches, pose = np.zeros((1, count - 1), int), np.eye(4)[None]
    return TokenLayout(("image",), ((1, 1),), np.zeros((1, 3)), points, patches, pose, np.zeros(3), 0.05)


@pytest.mark.parametrize(
    "visual, keep, bucket, budget",
    [(512, 0.33, 1, 169), (512, 0.33, 8, 168), (512, 0.35, 8, 176), (260, 1.0, 8, 260), (260, 0.99, 8, 256),
     (260, 0.98, 16, 256), (20, 0.01, 8, 8), (6, 0.5, 8, 6)],
)  # fmt: skip
def test_budget_is_the_bucket_nearest_to_the_ratio_asked_for(
    visual: int, keep: float, bucket: int, budget: int
) -> None:
    assert token_budget(layout_of(visual), keep, bucket) == budget


@pytest.mark.parametrize("method", ["random", "uniform", "tri_stage", "fastv", "vla_adp"])
def test_every_method_rounds_to_the_policys_bucket(
    method: str, tiny_policy_folder: Path, observation: MakeObservation
) -> None:
    policy = MVLAPolicy.load(tiny_policy_folder)
    policy.token_bucket = 16
    runtime = PolicyRuntime(policy, make_pruner(method, 0.33))
    kept = [runtime.infer(observation(seed)).selection.num_kept for seed in range(5)]
    assert kept[0] == 208 and all(k % 16 == 0 for k in kept) and min(kept) == 64


def test_bf16_is_near_fp32_and_leaves_what_needs_all_digits(
    tiny_policy_folder: Path, observation: MakeObservation
) -> None:
    plain, half = policies(tiny_policy_folder, "ddim", precision="bf16")
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(half.model.alphas, plain.model.alphas, rtol=0, atol=0)
    torch.testing.assert_close(
        half.model.backbone.rotary_emb.inv_freq, plain.model.backbone.rotary_emb.inv_freq, rtol=0, atol=0
    )
    # One pass: eight denoising steps of random weights would amplify any difference.
    prefixes = []
    for policy in (plain, half):
        prepared = policy.prepare(observation())
        batch = policy._batch(prepared, Selection.full(prepared.layout), observation().instruction)
        with torch.inference_mode():
            prefix = policy.model.tokenize(batch)
            noisy = policy.model.noisy_tokens(torch.ones(1, 16, 4), policy.model.time_tokens(torch.tensor([50])))
            prefixes.append(policy.model.run_backbone(prefix, noisy, evidence=True))
    wanted, got = prefixes
    assert got.hidden.dtype == torch.bfloat16
    assert (got.hidden.float() - wanted.hidden).norm() < 0.02 * wanted.hidden.norm()
    torch.testing.assert_close(got.attention.float(), wanted.attention, rtol=0.1, atol=1e-3)


def test_batch_normalisation_keeps_its_precision() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).eval()
    cast_parameters(model, torch.bfloat16)
    assert model[0].weight.dtype == torch.bfloat16 and model[1].weight.dtype == torch.float32
    assert torch.isfinite(model(torch.ones(2, 3, dtype=torch.bfloat16))).all()


def test_precision_is_chosen_by_the_device_and_unknown_ones_are_refused() -> None:
    assert resolve_precision("auto", torch.device("cpu")) == torch.float32
    assert resolve_precision("auto", torch.device("cuda")) == torch.bfloat16
    assert resolve_precision("fp16", torch.device("cpu")) == torch.float16
    with pytest.raises(ValueError, match="precision 'int4' is not known: use auto, fp32, bf16, fp16"):
        resolve_precision("int4", torch.device("cpu"))


def test_stages_add_up_to_the_call_and_a_name_that_comes_again_is_added() -> None:
    timer = StageTimer(torch.device("cpu"))
    start = time.perf_counter()
    for name in ("select", "backbone", "select"):
        with timer.stage(name):
            time.sleep(0.01)
    whole = (time.perf_counter() - start) * 1e3
    assert list(timer.ms) == ["select", "backbone"]
    assert timer.ms["select"] >= 20 and timer.ms["backbone"] >= 10
    assert whole - 5 <= sum(timer.ms.values()) <= whole


def test_a_stage_inside_a_stage_is_not_part_of_the_outer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 4.0, 6.0])  # outer begins, inner begins, inner ends, outer ends
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    timer = StageTimer()
    with timer.stage("backbone"), timer.stage("tokenize"):
        pass
    assert timer.ms == {"backbone": 3e3, "tokenize": 3e3}


class _Event:
    """What ``torch.cuda.Event`` offers, on a clock that the test turns."""

    now = 0.0
    waits = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: object) -> None:
        self.at = _Event.now

    def elapsed_time(self, other: _Event) -> float:
        return other.at - self.at

    def synchronize(self) -> None:
        _Event.waits += 1


def test_on_a_gpu_stages_are_between_events_and_only_reading_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    timer = StageTimer(torch.device("cuda"))
    for name, ms in (("tokenize", 2.0), ("backbone", 30.0), ("tokenize", 1.0)):
        with timer.stage(name):
            _Event.now += ms
    assert _Event.waits == 0
    assert timer.ms == {"tokenize": 3.0, "backbone": 30.0}
    assert _Event.waits > 0


def test_warm_up_measures_both_kinds_of_call_and_leaves_no_trace(
    tiny_policy_folder: Path, observation: MakeObservation
) -> None:
    fresh = actions(MVLAPolicy.load(tiny_policy_folder), "tri_stage", observation)
    runtime = PolicyRuntime(MVLAPolicy.load(tiny_policy_folder), TriStagePruner(0.35))
    measured = runtime.warm_up(observation(5))
    assert min(measured.first_ms, measured.full_ms, measured.pruned_ms) > 0
    again = np.stack([runtime.infer(observation(seed)).chunk.actions for seed in range(4)])
    np.testing.assert_array_equal(again, fresh)


def test_pruning_that_does_not_pay_can_be_switched_off_and_on(
    tiny_policy_folder: Path, observation: MakeObservation
) -> None:
    assert WarmUp(9.0, 5.0, 4.9).pruning_pays and not WarmUp(9.0, 5.0, 5.0).pruning_pays
    runtime = PolicyRuntime(MVLAPolicy.load(tiny_policy_folder), TriStagePruner(0.35))
    runtime.prune = False
    assert [runtime.infer(observation(seed)).selection.is_full for seed in range(3)] == [True] * 3
    runtime.prune = True
    assert [runtime.infer(observation(seed)).selection.is_full for seed in range(3)] == [True, False, False]
