"""The network: what pruning must not change, and what it may use as evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_mvla
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from mvla_pruned_ros.policy.engine.backbone import Prefix
from mvla_pruned_ros.policy.engine.device import resolve_device
from mvla_pruned_ros.policy.engine.diffusion import cosine_alphas, ddim_timesteps
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.mvla.model import Batch, MVLAModel
from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
from mvla_pruned_ros.policy.runtime import NonFiniteActionError, PolicyRuntime
from mvla_pruned_ros.pruning.methods import make_pruner
from mvla_pruned_ros.types import Observation

ORDERS = [
    ("instruction", "proprio", "image", "points", "action"),
    ("points", "image", "instruction", "proprio", "action"),
    ("image", "instruction", "points", "proprio", "action"),
]
SMALL = MVLAConfig(
    image_size=64, num_groups=10, group_size=6, width=32, depth=3, heads=4, mlp_width=48, chunk_size=5,
    instruction_length=4, evidence_layers=(0, 2),
)  # fmt: skip
IMAGE_KEPT = torch.tensor([[0, 3, 4, 9, 15], [1, 2, 3, 10, 11]])
POINTS_KEPT = torch.tensor([[1, 2, 8], [0, 7, 9]])


@pytest.fixture(
    params=[(order, head) for order in ORDERS for head in ("l1", "ddim")], ids=lambda p: f"{p[0][0]}-{p[1]}"
)
def model(request: pytest.FixtureRequest) -> MVLAModel:
    order, head = request.param
    return make_model(token_order=order, head=head)


def make_model(**changes: object) -> MVLAModel:
    torch.manual_seed(0)
    model = MVLAModel(dataclasses.replace(SMALL, **changes), vocabulary=11).eval().requires_grad_(False)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():  # random weights attend evenly; make attention pointed
        if "q_proj" in name or "k_proj" in name:
            parameter.mul_(12)
    return model


def make_batch(pruned: bool, seed: int = 0) -> Batch:
    batch = tiny_mvla.make_batch(seed, samples=2)
    kept = {"image_kept": IMAGE_KEPT, "points_kept": POINTS_KEPT} if pruned else {}
    return dataclasses.replace(batch, **kept)


def predict(model: MVLAModel, batch: Batch, **options: Any) -> Tensor:
    """(B, chunk, A) normalised actions."""
    return model.decode(model.tokenize(batch), **options)[0]


def action_tokens(model: MVLAModel, noise: Tensor) -> Tensor:
    """Embeddings of the action segment, for the ddim head those of its first step."""
    if model.config.head == "l1":
        return model.action_queries.expand(len(noise), -1, -1)
    return model.noisy_tokens(noise, model.time_tokens(torch.full((len(noise),), 60)))


def kept_columns(model: MVLAModel) -> Tensor:
    """(2, T) columns of the full prefix that the pruned batch keeps."""
    columns = []
    for segment in model.config.token_order[:-1]:
        length = model.config.segment_length(segment)
        kept = {"image": IMAGE_KEPT, "points": POINTS_KEPT}.get(segment, torch.arange(length).expand(2, -1))
        columns.append(kept + model.config.segment_start(segment))
    return torch.cat(columns, 1)


def test_encoding_what_was_kept_equals_keeping_what_was_encoded(model: MVLAModel) -> None:
    full, pruned = model.tokenize(make_batch(False)), model.tokenize(make_batch(True))
    columns = kept_columns(model)
    wanted = full.tokens.gather(1, columns[..., None].expand(-1, -1, SMALL.width))
    torch.testing.assert_close(pruned.tokens, wanted, atol=1e-6, rtol=1e-5)


def test_kept_tokens_keep_the_positions_of_the_full_sequence(model: MVLAModel) -> None:
    full, pruned = model.tokenize(make_batch(False)), model.tokenize(make_batch(True))
    assert full.positions.tolist() == [list(range(full.tokens.shape[1]))] * 2
    assert pruned.positions.tolist() == kept_columns(model).tolist()
    first_action = 4 + 1 + 16 + 10
    assert model.action_positions(1, torch.device("cpu"))[0, 0] == first_action


def test_visual_tokens_are_found_image_first_in_every_order(model: MVLAModel) -> None:
    config, prefix = model.config, model.tokenize(make_batch(False))
    start = {segment: config.segment_start(segment) for segment in ("image", "points")}
    wanted = list(range(start["image"], start["image"] + 16)) + list(range(start["points"], start["points"] + 10))
    assert prefix.visual.tolist() == wanted


def test_keeping_every_token_by_index_is_the_unpruned_call_bit_for_bit(model: MVLAModel) -> None:
    plain, noise = make_batch(False), torch.randn(2, 5, 4)
    listed = dataclasses.replace(
        plain, image_kept=torch.arange(16).expand(2, -1), points_kept=torch.arange(10).expand(2, -1)
    )
    assert torch.equal(predict(model, plain, noise=noise), predict(model, listed, noise=noise))


def test_dropped_tokens_have_no_influence_and_kept_ones_do(model: MVLAModel) -> None:
    noise, batch = torch.randn(2, 5, 4), make_batch(True)
    before = predict(model, batch, noise=noise)
    batch.image[:, 16:32, 16:32] = 255 - batch.image[:, 16:32, 16:32]  # patch 5 of a grid of 4 is dropped in both
    batch.centres[:, 3] += 1.0
    batch.groups[:, 3] *= 2.0
    assert torch.equal(predict(model, batch, noise=noise), before)
    batch.image[:, :16, 48:] = 255 - batch.image[:, :16, 48:]  # patch 3 is kept in both
    assert not torch.allclose(predict(model, batch, noise=noise), before)


def test_samples_of_a_batch_do_not_mix(model: MVLAModel) -> None:
    batch, noise = make_batch(True), torch.randn(2, 5, 4)
    together = predict(model, batch, noise=noise)
    fields = {f.name: getattr(batch, f.name) for f in dataclasses.fields(Batch)}
    alone = Batch(**{name: None if value is None else value[1:] for name, value in fields.items()})
    torch.testing.assert_close(predict(model, alone, noise=noise[1:]), together[1:], atol=1e-5, rtol=1e-4)


def eager_reference(model: MVLAModel, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Features before the final norm, those that enter the last layer, and the attention of every layer, by
    transformers' own softmax attention under a causal mask that is written out."""
    c = model.config
    reference = LlamaModel(
        LlamaConfig(
            vocab_size=11, hidden_size=c.width, intermediate_size=c.mlp_width, num_hidden_layers=c.depth,
            num_attention_heads=c.heads, num_key_value_heads=c.heads, max_position_embeddings=4096,
            attn_implementation="eager", use_cache=False,
        )
    ).eval()  # fmt: skip
    reference.norm = nn.Identity()
    reference.load_state_dict(model.backbone.state_dict())
    length = tokens.shape[1]
    mask = torch.full((length, length), float("-inf")).triu(1).expand(len(tokens), 1, -1, -1)
    with torch.no_grad():
        out = reference(
            inputs_embeds=tokens, position_ids=positions, attention_mask=mask, output_attentions=True,
            output_hidden_states=True,
        )  # fmt: skip
    return out.last_hidden_state, out.hidden_states[-2], out.attentions


@pytest.mark.parametrize("pruned", [False, True], ids=["full", "pruned"])
def test_fused_backbone_and_its_evidence_agree_with_eager_attention(model: MVLAModel, pruned: bool) -> None:
    """Holds for a pruned call too, whose position_ids have gaps: those must not be taken for sequence borders."""
    prefix, chunk = model.tokenize(make_batch(pruned)), SMALL.chunk_size
    action = action_tokens(model, torch.randn(2, 5, 4))
    out = model.run_backbone(prefix, action, evidence=True)
    tokens = torch.cat([prefix.tokens, action], 1)
    positions = torch.cat([prefix.positions, model.action_positions(2, action.device)], 1)
    hidden, features, attentions = eager_reference(model, tokens, positions)

    torch.testing.assert_close(out.hidden, model.final_norm(hidden[:, -action.shape[1] :]), atol=1e-4, rtol=1e-4)
    rows = torch.stack([attentions[layer][:, :, -chunk:] for layer in SMALL.evidence_layers])
    wanted = rows.mean((0, 2, 3))[:, prefix.visual]
    assert wanted.std() > 0.2 * wanted.mean(), "attention must be uneven for this test to mean anything"
    assert out.attention is not None and out.norm is not None
    torch.testing.assert_close(out.attention, wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out.norm, features[:, prefix.visual].abs().mean(-1), atol=1e-4, rtol=1e-4)
    assert (out.attention.sum(1) <= 1 + 1e-5).all()


def test_asking_for_evidence_does_not_change_the_action(model: MVLAModel) -> None:
    batch, noise = make_batch(True), torch.randn(2, 5, 4)
    assert torch.equal(predict(model, batch, noise=noise), predict(model, batch, noise=noise, evidence=True))


@pytest.mark.parametrize("pruned", [False, True], ids=["full", "pruned"])
@pytest.mark.parametrize("order", ORDERS, ids=lambda o: o[0])
def test_reusing_the_prefix_equals_recomputing_it_at_every_denoising_step(order: tuple[str, ...], pruned: bool) -> None:
    model = make_model(token_order=order, head="ddim")
    prefix, noise = model.tokenize(make_batch(pruned)), torch.randn(2, 5, 4)
    quick, evidence = model.decode(prefix, evidence=True, noise=noise)
    slow, slow_evidence = model.decode(prefix, evidence=True, noise=noise, reuse_prefix=False)
    # Random weights make the sample large: what counts is the error beside its size.
    assert (quick - slow).abs().max() <= 1e-5 * slow.abs().max()
    assert evidence.attention is not None and slow_evidence.attention is not None
    torch.testing.assert_close(evidence.attention, slow_evidence.attention, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(evidence.norm, slow_evidence.norm, atol=1e-5, rtol=1e-5)


def test_encoding_again_at_each_denoising_step_as_upstream_does_changes_nothing() -> None:
    model = make_model(head="ddim")
    batch, noise, encoded = make_batch(pruned=True), torch.randn(2, 5, 4), []

    def tokenize() -> Prefix:
        encoded.append(model.tokenize(batch))
        return encoded[-1]

    quick, _ = model.decode(model.tokenize(batch), noise=noise)
    slow, _ = model.decode(tokenize(), noise=noise, reuse_prefix=False, retokenize=tokenize)
    assert len(encoded) == model.config.ddim_steps
    assert (quick - slow).abs().max() <= 1e-5 * slow.abs().max()


def test_denoising_recovers_the_sample_when_the_noise_is_predicted_exactly() -> None:
    """DDIM with eta 0 inverts the forward process if the head knows the noise: checks the schedule and its ends."""
    model = make_model(head="ddim")
    clean, noise = torch.rand(2, 5, 4) * 2 - 1, torch.randn(2, 5, 4)
    last = ddim_timesteps(100, 8)[0]
    start = model.alphas[last].sqrt() * clean + (1 - model.alphas[last]).sqrt() * noise

    class KnowsTheNoise(nn.Module):
        def forward(self, hidden: Tensor) -> Tensor:
            return noise

    model.action_head = KnowsTheNoise()
    sample, _ = model.decode(model.tokenize(make_batch(False)), noise=start)
    torch.testing.assert_close(sample, clean, atol=1e-4, rtol=1e-4)


def test_noise_is_read_from_the_action_tokens_and_not_from_the_timestep_token() -> None:
    model, noise = make_model(head="ddim"), torch.randn(2, 5, 4)
    prefix, read = model.tokenize(make_batch(False)), []
    model.action_head.register_forward_hook(lambda _, inputs, __: read.append(inputs[0]))
    model.decode(prefix, noise=noise)
    first = model.noisy_tokens(noise, model.time_tokens(torch.full((2,), model.timesteps[0])))
    torch.testing.assert_close(read[0], model.run_backbone(prefix, first).hidden[:, 1:], atol=1e-5, rtol=1e-5)
    assert len(read) == 8


def test_ddim_timesteps_are_evenly_spaced_and_end_at_zero() -> None:
    assert ddim_timesteps(100, 8) == [91, 78, 65, 52, 39, 26, 13, 0]
    assert ddim_timesteps(10, 10) == list(range(9, -1, -1))
    with pytest.raises(ValueError, match="no even stride gives 60 of 100"):
        ddim_timesteps(100, 60)


def test_cosine_schedule_goes_from_clean_to_noise() -> None:
    alphas = cosine_alphas(100)
    assert alphas[0] > 0.999 and 0 < alphas[-1] < 1e-4 and (alphas.diff() < 0).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"token_order": ("image", "points", "proprio", "action", "instruction")}, "token_order"),
        ({"token_order": ("image", "points", "action")}, "token_order"),
        ({"patch_size": 24}, "image_size 64"),
        ({"heads": 5}, "width 32"),
        ({"head": "mlp"}, "head must be l1 or ddim, got 'mlp'"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
        ({"evidence_layers": (3,)}, "evidence_layers"),
        ({"evidence_layers": ()}, "evidence_layers"),
    ],
)
def test_impossible_configuration_is_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)  # type: ignore[arg-type]


MakeObservation = Callable[..., Observation]


def test_keep_ratio_one_acts_as_no_pruning_bit_for_bit(tiny_policy_folder: Path, observation: MakeObservation) -> None:
    results = {}
    for method in ("none", "random", "tri_stage"):
        runtime = PolicyRuntime(MVLAPolicy.load(tiny_policy_folder), make_pruner(method, 1.0))
        results[method] = np.stack([runtime.infer(observation(seed)).chunk.actions for seed in range(4)])
    assert results["none"].std() > 0
    np.testing.assert_array_equal(results["random"], results["none"])
    np.testing.assert_array_equal(results["tri_stage"], results["none"])


def test_pruned_call_reports_its_tokens_stages_and_time(tiny_policy_folder: Path, observation: MakeObservation) -> None:
    runtime = PolicyRuntime(MVLAPolicy.load(tiny_policy_folder), make_pruner("tri_stage", 0.25))
    first, second = runtime.infer(observation(0)), runtime.infer(observation(1))
    assert first.selection.is_full and second.selection.kept.sum() == 52
    assert second.stats.image_kept + second.stats.points_kept == 52
    assert (second.stats.image_in, second.stats.points_in) == (144, 64)
    assert list(second.stage_ms) == ["prepare", "select", "tokenize", "backbone", "head"]
    assert second.policy_ms == sum(second.stage_ms.values()) > 0
    assert (second.chunk.stamp_ns, second.chunk.step_s) == (observation(1).stamp_ns, 0.0125)
    assert second.chunk.actions.shape == (16, 4) and second.chunk.actions.dtype == np.float32
    assert (abs(second.chunk.actions) <= [0.5, 0.5, 0.5, 1.0]).all()


def test_after_a_reset_the_policy_acts_as_at_the_start(tiny_policy_folder: Path, observation: MakeObservation) -> None:
    runtime = PolicyRuntime(MVLAPolicy.load(tiny_policy_folder), make_pruner("tri_stage", 0.25))

    def episode() -> np.ndarray:
        runtime.reset()
        return np.stack([runtime.infer(observation(seed)).chunk.actions for seed in range(3)])

    np.testing.assert_array_equal(episode(), episode())


def test_actions_that_are_not_finite_are_withheld_and_the_history_is_dropped(
    tiny_policy_folder: Path, observation: MakeObservation
) -> None:
    policy = MVLAPolicy.load(tiny_policy_folder)
    runtime = PolicyRuntime(policy, make_pruner("tri_stage", 0.25))
    runtime.infer(observation(0))
    bias = policy.model.action_head[-1].bias
    healthy = bias[1].clone()
    bias[1] = float("nan")
    with pytest.raises(NonFiniteActionError):
        runtime.infer(observation(1))
    bias[1] = healthy
    assert runtime.infer(observation(2)).selection.is_full


def test_instruction_changes_the_action_and_an_unknown_one_is_refused(
    tiny_policy_folder: Path, observation: MakeObservation
) -> None:
    runtime = PolicyRuntime(MVLAPolicy.load(tiny_policy_folder), make_pruner("none", 1.0))
    push = runtime.infer(observation(instruction="push the puck to the goal")).chunk.actions
    close = runtime.infer(observation(instruction="close the faucet")).chunk.actions
    assert (push != close).any()
    with pytest.raises(ValueError, match="not trained on: somersault"):
        runtime.infer(observation(instruction="somersault"))


@pytest.mark.parametrize("name", ["tpu", "mps", "cuda:99", "warp drive", ""])
def test_device_that_is_not_there_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"device {name!r}"):
        resolve_device(name)


def test_automatic_device_is_one_that_works() -> None:
    assert torch.zeros(1, device=resolve_device("auto")).sum() == 0
