"""The MLA policy behind the policy interface: inputs, pruning, prefix reuse, normalisation. Random weights, small."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from mla_checkpoint import tokenizer_entries
from scipy.spatial.transform import Rotation
from tokenizers import Tokenizer

from mvla_pruned_ros.control.action_spaces import ActionForm
from mvla_pruned_ros.control.motions import motions_of
from mvla_pruned_ros.geometry.clouds import farthest_point_sample
from mvla_pruned_ros.policy.base import StageTimer
from mvla_pruned_ros.policy.mla.config import MLAConfig
from mvla_pruned_ros.policy.mla.model import MLABatch, MLAModel
from mvla_pruned_ros.policy.mla.normalization import MLANormalization, Quantiles
from mvla_pruned_ros.policy.mla.point_tower import sample_groups
from mvla_pruned_ros.policy.mla.policy import MLAPolicy
from mvla_pruned_ros.policy.mla.preprocess import MLAInput, clip_image, group_indices, prepare
from mvla_pruned_ros.policy.mla.presets import MLA_PRESETS
from mvla_pruned_ros.policy.mla.prompt import PromptTokenizer
from mvla_pruned_ros.policy.mla.random_weights import random_mla_policy
from mvla_pruned_ros.policy.mvla.preprocess import NotReadyError
from mvla_pruned_ros.policy.runtime import PolicyRuntime
from mvla_pruned_ros.pruning.methods import METHODS, make_pruner
from mvla_pruned_ros.pruning.types import Reason, Selection
from mvla_pruned_ros.types import ArmState, CameraModel, Observation

CONFIG = MLAConfig(
    image_size=168, image_width=32, image_heads=4, num_points=128, neighbours=17, point_width=12, point_token_width=24,
    vocabulary=64, blank_token=63, width=32, depth=4, heads=2, mlp_width=48, evidence_layers=(2, 3),
    workspace_lower=(-0.5, -0.1, 0.0), workspace_upper=(0.5, 1.0, 0.5),
)  # fmt: skip
PROPRIO = np.array([0.0, 0.6, 0.2, 3.1, 0.1, -0.2, 1.0], np.float32)
TURN = Rotation.from_euler("xyz", PROPRIO[3:6]).as_quat()
STATE = ArmState(PROPRIO[:3], 1.0, TURN, last_command=np.append(PROPRIO[:3], TURN))


@pytest.fixture
def seen(observation: Callable[..., Observation]) -> Observation:
    return observation(state=STATE, instruction="close the box")


@pytest.fixture(scope="module")
def policy() -> MLAPolicy:
    return random_mla_policy(CONFIG, "cpu", torch.float32)


@pytest.fixture
def prepared(seen: Observation) -> MLAInput:
    return prepare(seen, CONFIG)


def batch_of(prepared: MLAInput, count: int = 1, **kept: torch.Tensor) -> MLABatch:
    arrays = (prepared.image, prepared.points, prepared.first, prepared.second, prepared.proprio)
    tensors = [torch.from_numpy(np.stack([x] * count)) for x in arrays]
    return MLABatch(*tensors, prompt=torch.arange(5, 12).expand(count, -1), **kept)


def some(count: int, kept: int, seed: int = 0) -> torch.Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:kept].sort().values[None]


# --- inputs ----------------------------------------------------------------------------------------------------


def test_shapes_and_types_are_those_documented(prepared: MLAInput) -> None:
    assert (prepared.image.shape, prepared.image.dtype) == ((1, 168, 168, 3), np.uint8)
    assert (prepared.points.shape, prepared.points.dtype) == ((128, 3), np.float32)
    assert prepared.first.shape == (64,) and prepared.second.shape == (32,)
    assert prepared.layout.grids == ((4, 4),) and prepared.layout.num_points == 32
    np.testing.assert_array_equal(prepared.layout.end_effector, PROPRIO[:3])
    np.testing.assert_array_equal(prepared.layout.point_positions, prepared.points[prepared.first][prepared.second])


def farthest(points: np.ndarray, count: int) -> list[int]:
    """Plain reference: the point whose nearest picked one is farthest, from point 0 on."""
    picked = [0]
    while len(picked) < count:
        picked.append(int(np.min([((points - points[i]) ** 2).sum(1) for i in picked], 0).argmax()))
    return picked


def test_groups_are_sampled_as_a_plain_loop_does_it() -> None:
    points = np.random.default_rng(0).random((3, 80, 3)).astype(np.float32)
    first, second = sample_groups(torch.from_numpy(points))
    for cloud, one, two in zip(points, first.tolist(), second.tolist()):
        assert one == farthest(cloud, 40)
        assert two == farthest(cloud[one], 20)


def test_small_cloud_is_padded_with_the_origin_and_a_smaller_one_refused(
    observation: Callable[..., Observation],
) -> None:
    points = np.random.default_rng(0).uniform([0, 0.5, 0], [0.3, 0.8, 0.3], (50, 3)).astype(np.float32)
    sampled = prepare(observation(points=points, state=STATE), CONFIG).points
    assert (sampled[:50] != 0).any(1).all() and not sampled[50:].any()
    with pytest.raises(NotReadyError, match="20 points in the workspace"):
        prepare(observation(points=points[:20], state=STATE), CONFIG)


def test_proprio_is_the_last_commanded_pose_and_the_gripper(
    prepared: MLAInput, observation: Callable[..., Observation]
) -> None:
    np.testing.assert_allclose(prepared.proprio, PROPRIO, atol=1e-6)
    with pytest.raises(ValueError, match="takes the last commanded pose, and none is known"):
        prepare(observation(), CONFIG)


@pytest.mark.parametrize("width, height", [(168, 168), (640, 480), (300, 480), (84, 90)])
def test_resampled_image_and_camera_fit(camera: Callable[..., CameraModel], width: int, height: int) -> None:
    """What is painted where a point projects must come out where the returned camera projects that point."""
    model, target = camera(width, height), np.array([[0.1, 0.65, 0.03]])
    (u, v), half = model.project(target)[0][0], min(width, height) / 40
    rows, columns = np.mgrid[:height, :width] + 0.5
    image = np.zeros((height, width, 3), np.uint8)
    image[(abs(columns - u) < half) & (abs(rows - v) < half)] = 255
    square, fitted = clip_image(image, model, 168)
    assert square.shape == (168, 168, 3) and (fitted.width, fitted.height) == (168, 168)
    brightness = square.astype(float).mean(2)
    rows, columns = np.mgrid[:168, :168] + 0.5
    centre = [(columns * brightness).sum() / brightness.sum(), (rows * brightness).sum() / brightness.sum()]
    np.testing.assert_allclose(centre, fitted.project(target)[0][0], atol=1.0)


# --- pruning before encoding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [1, 5, 16])
@torch.inference_mode()
def test_dropped_image_tokens_are_not_encoded_and_the_others_do_not_change(
    policy: MLAPolicy, prepared: MLAInput, kept: int
) -> None:
    image, index = torch.from_numpy(prepared.image)[None].clone(), some(16, kept)
    whole = policy.model.image_tower(image)
    for token in set(range(16)) - set(index[0].tolist()):  # whatever they show
        row, column = divmod(token, 4)
        image[:, :, 42 * row : 42 * (row + 1), 42 * column : 42 * (column + 1)] = 77
    torch.testing.assert_close(policy.model.image_tower(image, index), whole[:, index[0]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kept", [1, 3, 32])
@torch.inference_mode()
def test_dropped_groups_are_not_encoded_and_the_others_do_not_change(
    policy: MLAPolicy, prepared: MLAInput, kept: int
) -> None:
    tower, index = policy.model.point_tower, some(32, kept)
    inputs = [torch.from_numpy(x)[None] for x in (prepared.points, prepared.first, prepared.second)]
    whole = tower(*inputs)
    encoded = []
    for stage in tower.stages:
        stage.register_forward_hook(lambda module, args, out: encoded.append(out.shape[1]))
    pruned = tower(*inputs, index)
    for stage in tower.stages:
        stage._forward_hooks.clear()
    torch.testing.assert_close(pruned, whole[:, index[0]], rtol=1e-5, atol=1e-6)
    assert encoded == [64, kept]


@torch.inference_mode()
def test_samples_of_a_batch_do_not_touch_each_other(policy: MLAPolicy, prepared: MLAInput) -> None:
    image, points = torch.cat([some(16, 6), some(16, 6, 1)]), torch.cat([some(32, 4), some(32, 4, 1)])
    both = policy.model.tokenize(batch_of(prepared, 2, image_kept=image, points_kept=points))
    for i in range(2):
        kept = {"image_kept": image[i : i + 1], "points_kept": points[i : i + 1]}
        one = policy.model.tokenize(batch_of(prepared, 1, **kept))
        torch.testing.assert_close(both.tokens[i], one.tokens[0], rtol=1e-5, atol=1e-6)
        assert torch.equal(both.positions[i], one.positions[0])


@torch.inference_mode()
def test_pruned_sequence_is_the_full_one_with_tokens_left_out(policy: MLAPolicy, prepared: MLAInput) -> None:
    """Encoding all and dropping after gives the same prefix as dropping before, positions included."""
    image, points = some(16, 6), some(32, 9)
    pruned = policy.model.tokenize(batch_of(prepared, image_kept=image, points_kept=points))
    full = policy.model.tokenize(batch_of(prepared))
    after, _ = full.keep_visual(torch.cat([image[0], 16 + points[0]]))
    torch.testing.assert_close(pruned.tokens, after.tokens, rtol=1e-5, atol=1e-6)
    assert torch.equal(pruned.positions, after.positions)
    assert torch.equal(pruned.visual, after.visual) and pruned.num_image == 6


@torch.inference_mode()
def test_order_of_the_sequence(policy: MLAPolicy, prepared: MLAInput) -> None:
    full = policy.model.tokenize(batch_of(prepared))
    assert torch.equal(full.positions[0], torch.arange(1 + 32 + 16 + 1 + 7 + 1))
    assert full.visual.tolist() == [*range(33, 49), *range(1, 33)]
    assert not full.tokens[0, 49].any()  # tactile
    embed = policy.model.backbone.embed_tokens
    assert torch.equal(full.tokens[0, 0], embed(torch.tensor(1)))
    assert torch.equal(full.tokens[0, 50:57], embed(torch.arange(5, 12)))
    assert torch.equal(policy.model.call_view(full).text, full.tokens[0, 50:57])


@torch.inference_mode()
def test_empty_word_can_stand_before_proprio(prepared: MLAInput) -> None:
    model = random_mla_policy(replace(CONFIG, blank_before_proprio=True), "cpu", torch.float32).model
    prefix = model.tokenize(batch_of(prepared))
    assert torch.equal(prefix.tokens[0, 57], model.backbone.embed_tokens(torch.tensor(63)))
    assert torch.equal(model.call_view(prefix).text, prefix.tokens[0, 50:57])
    assert prefix.tokens.shape[1] == 59


# --- calls -----------------------------------------------------------------------------------------------------


def selection_of(prepared: MLAInput, seed: int) -> Selection:
    kept = np.random.default_rng(seed).random(prepared.layout.num_visual) < 0.4
    return Selection(np.where(kept, Reason.SALIENT, Reason.DROPPED).astype(np.int8), prepared.layout.num_image)


def test_prefix_reuse_changes_nothing(policy: MLAPolicy, prepared: MLAInput) -> None:
    again = MLAPolicy(policy.model, policy.tokenizer, policy.normalization, recompute=True)
    policy.reset()
    for selection in (Selection.full(prepared.layout), selection_of(prepared, 0)):
        one, other = (p.act(prepared, selection, "close the box", StageTimer()) for p in (policy, again))
        np.testing.assert_allclose(one.actions, other.actions, atol=1e-4)
        np.testing.assert_allclose(one.evidence.attention, other.evidence.attention, atol=1e-6)
        assert len(one.evidence.norm) == selection.kept.sum()


def test_recording_changes_nothing(policy: MLAPolicy, prepared: MLAInput) -> None:
    """Prompts and numbers of tokens of several lengths, each through its own buffers, twice."""
    static = MLAPolicy(policy.model, policy.tokenizer, policy.normalization, record=True)
    for p in (policy, static):
        p.reset()
    for _ in range(2):
        for selection in (Selection.full(prepared.layout), selection_of(prepared, 0)):
            for instruction in ("close the box", "close"):
                one, other = (p.act(prepared, selection, instruction, StageTimer()) for p in (policy, static))
                np.testing.assert_array_equal(one.actions, other.actions)
                np.testing.assert_array_equal(one.evidence.attention, other.evidence.attention)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_prunes_it_through_the_runtime(policy: MLAPolicy, seen: Observation, method: str) -> None:
    runtime = PolicyRuntime(policy, make_pruner(method, 0.5))
    runtime.reset()
    for _ in range(4):
        inference = runtime.infer(seen)
    assert inference.chunk.actions.shape == (1, 7)
    kept = int(inference.selection.kept.sum())
    assert kept == 48 if method == "none" else 0 < kept <= 24


def test_actions_lead_on_from_where_the_end_effector_was_and_say_what_the_gripper_does(
    policy: MLAPolicy, seen: Observation
) -> None:
    chunk = PolicyRuntime(policy, make_pruner("none", 1.0)).infer(seen).chunk
    assert chunk.actions[0, 6] in (-1, 1), "as of all policies: upstream's 1 is open, and -1 opens here"
    opened = np.array([[0, 0, 0, 0, 0, 0, 0.9], [0, 0, 0, 0, 0, 0, 0.1]], np.float32)
    assert policy._actions(opened)[:, 6].tolist() == [-1, 1]
    (pose,) = motions_of(chunk, ActionForm.of(policy))
    assert pose[:3] == pytest.approx(PROPRIO[:3] + chunk.actions[0, :3])
    angles = chunk.actions[0, 3:6].astype(float)
    np.testing.assert_allclose(Rotation.from_quat(pose[3:]).as_matrix(), Rotation.from_euler("xyz", angles).as_matrix())


def test_same_episode_gives_the_same_actions(policy: MLAPolicy, seen: Observation) -> None:
    runtime = PolicyRuntime(policy, make_pruner("tri_stage", 0.5))
    episodes = []
    for _ in range(2):
        runtime.reset()
        episodes.append([runtime.infer(seen).chunk.actions for _ in range(3)])
    np.testing.assert_array_equal(*episodes)


def test_random_policy_is_built_in_its_precision_without_another_copy() -> None:
    policy = random_mla_policy(CONFIG, "cpu", torch.bfloat16)
    assert {p.dtype for p in policy.model.parameters()} == {torch.bfloat16}
    assert policy.model.backbone.rotary_emb.inv_freq.dtype == torch.float32
    again = random_mla_policy(CONFIG, "cpu", torch.bfloat16)
    assert torch.equal(policy.model.final_norm.weight, again.model.final_norm.weight)
    assert torch.equal(policy.model.image_tower.patch.weight, again.model.image_tower.patch.weight)


def test_half_precision_gives_nearly_the_same_call(prepared: MLAInput) -> None:
    full, half = (random_mla_policy(CONFIG, "cpu", dtype) for dtype in (torch.float32, torch.bfloat16))
    half.model.load_state_dict({k: v.bfloat16() for k, v in full.model.state_dict().items()})
    with torch.inference_mode():
        tokens = [p.model.tokenize(batch_of(prepared)).tokens.float() for p in (full, half)]
    assert (tokens[0] - tokens[1]).abs().max() < 0.03 * tokens[0].abs().max()
    assert np.isfinite(half.act(prepared, Selection.full(prepared.layout), "go", StageTimer()).actions).all()


def test_presets_have_upstreams_tokens_and_sizes() -> None:
    assert all((c.num_patches, c.num_groups, c.grid) == (256, 256, 16) for c in MLA_PRESETS.values())
    large = MLAModel.empty(MLA_PRESETS["mla-7b"], torch.device("cpu"))
    assert all(p.is_meta for p in large.parameters())
    assert 6.6e9 < sum(p.numel() for p in large.parameters()) < 6.8e9  # Llama-2-7B less its head, and the towers


# --- prompt and normalisation ----------------------------------------------------------------------------------


def test_prompt_is_upstreams_sentence_in_lower_case() -> None:
    entries: Any = tokenizer_entries()
    words = {i: word for word, i in entries["model"]["vocab"].items()}
    config = replace(CONFIG, vocabulary=128, blank_token=127, max_prompt_tokens=20)
    tokenizer = PromptTokenizer(Tokenizer.from_str(json.dumps(entries)), config)
    ids = tokenizer.encode(" Close the BOX ")
    text = " ".join(words[i] for i in ids)
    assert text == "In : What action should the robot take to close the box ? Out :"
    with pytest.raises(ValueError, match="instruction is empty"):
        tokenizer.encode("  ")
    with pytest.raises(ValueError, match="has 33 tokens, this policy takes 20"):
        tokenizer.encode("box " * 21)


def test_actions_and_proprio_are_scaled_as_upstream_does() -> None:
    mask = np.array([True] * 6 + [False])
    q01, q99 = np.array([-1, -1, -1, -3, -3, -3, 0.0], np.float32), np.array([1, 3, 1, 3, 3, 3, 1.0], np.float32)
    one = MLANormalization(Quantiles(q01, q99, mask), Quantiles(q01, q99, mask))
    chunk = np.array([[0, 0.5, 2, -1, 1, 0, 0.5], [0, 0, -2, 0, 0, 0, 0.49]], np.float32)
    np.testing.assert_allclose(one.actions(chunk), [[0, 2, 1, -3, 3, 0, 1], [0, 1, -1, 0, 0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(one.proprio.normalize(np.array([0, 3, 9, 0, 0, 0, 0.7])), [0, 1, 1, 0, 0, 0, 0.7])
    assert chunk[0, 2] == 2, "what was given is not changed"


def test_both_grippers_of_two_arms_are_opened_or_closed() -> None:
    chunk = np.full((1, 14), 0.2, np.float32)
    chunk[0, 13] = 0.9
    actions = MLANormalization.identity(14, 14).actions(chunk)
    assert actions[0, 6] == 0 and actions[0, 13] == 1 and actions[0, 5] == pytest.approx(0.2)


@pytest.mark.parametrize("seed", range(3))
def test_points_in_their_order_of_sampling_need_not_be_sampled_again(seed: int) -> None:
    cloud = np.random.default_rng(seed).uniform(-0.5, 0.5, (5000, 3)).astype(np.float32)
    points = cloud[farthest_point_sample(cloud, 512)]
    for quick, sampled in zip(group_indices(points, in_order=True), group_indices(points, in_order=False)):
        np.testing.assert_array_equal(quick, sampled)
