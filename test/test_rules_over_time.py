"""SpecPrune-VLA and VLA-Cache, by hand: rules that cut in several layers and compare a call with earlier ones."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_executor import policies
from test_views import MLA
from tiny_mvla import make_batch, make_model
from torch import Tensor

from mvla_pruned_ros.policy.mla.random_weights import random_mla_policy
from mvla_pruned_ros.policy.mvla.model import MVLAModel
from mvla_pruned_ros.policy.runtime import PolicyRuntime
from mvla_pruned_ros.pruning.baselines.in_call_pruner import inherited, union_of
from mvla_pruned_ros.pruning.baselines.specprune import (
    COARSE,
    PRECISE,
    Lengths,
    SpecPrunePruner,
    StaticAndUnattended,
    calls_back,
)
from mvla_pruned_ros.pruning.baselines.vla_cache import Reuse, Shown, VlaCachePruner, layers_of, reuse_shares
from mvla_pruned_ros.pruning.in_call import CallMemory, CallView, InCallRule
from mvla_pruned_ros.pruning.methods import make_pruner
from mvla_pruned_ros.pruning.types import Selection, TokenLayout
from mvla_pruned_ros.types import Observation

MakeObservation = Callable[..., Observation]
METHODS = ("specprune", "vla_cache")


def turned(count: int, **by: float) -> tuple[Tensor, Tensor]:
    """(count, 2 count) unit vectors, and the same with those of ``t3=0.5`` turned to a cosine of 1 - 0.5."""
    then = torch.eye(count, 2 * count)
    now = then.clone()
    for name, unlikeness in by.items():
        i, cosine = int(name[1:]), 1 - unlikeness
        now[i, i], now[i, count + i] = cosine, (1 - cosine**2) ** 0.5
    return then, now


def shown(embeddings: Tensor, layer: int, depth: int = 4, **attention: float) -> CallView:
    """A view of image tokens; the first action query attends to ``t3=0.5``, the second to nothing in particular."""
    count = len(embeddings)
    rows = torch.full((2, count), 0.001)
    for name, value in attention.items():
        rows[0, int(name[1:])] = value
    return CallView(embeddings, count, embeddings[:2], rows, lambda: rows[0], layer, depth, None)


# The union of lists


def test_lists_grow_in_their_proportions_until_their_union_has_the_budget_of_each_modality() -> None:
    one = torch.tensor([9.0, 8, 7, 6, 5, 4, 3, 2])  # 6 image tokens, 2 points
    two = torch.tensor([-torch.inf, -torch.inf, -torch.inf, 1, 2, 3, 1, 2])
    # Twice as long is the first: at a length of 2 and 1 the union of the image is 0, 1 and 5.
    assert union_of([(one, 2), (two, 1)], 4, 6).tolist() == [0, 1, 5, 6]
    assert union_of([(one, 2), (two, 1)], 8, 6).tolist() == list(range(8))


def test_what_has_left_takes_no_place_in_a_list() -> None:
    one, present = torch.tensor([4.0, 3, 2, 1]), torch.tensor([False, True, True, True])
    assert union_of([(one, 1)], 2, 4, present).tolist() == [1, 2]


# SpecPrune-VLA


def test_specprune_unites_what_changed_with_what_two_layers_and_the_last_action_attend_to() -> None:
    then, now = turned(10, t0=1.0, t1=0.5, t2=0.1)
    previous = np.zeros(10, np.float32)
    previous[[9, 8]] = 0.5, 0.2
    rule = StaticAndUnattended(5, Lengths(changed=2, attended=1), then, torch.from_numpy(previous))
    # After the first layer: 2 that changed, 3 attended to, 1 of the last action; 6 / 5 of the budget is 6.
    first = rule.choose(shown(now, 1, t3=0.9, t4=0.8, t5=0.7, t6=0.6))
    assert first is not None and first.tolist() == [0, 1, 3, 4, 5, 9]
    # After the second: 2 that changed, 1 of each layer, 1 of the last action. Token 7 has left and cannot return.
    present = torch.zeros(10, dtype=torch.bool).index_fill(0, first, True)
    second = rule.choose(replace(shown(now, 2, t7=0.9, t5=0.8, t4=0.7), present=present))
    assert second is not None and second.tolist() == [0, 1, 3, 5, 9]


def test_specprune_has_the_published_lengths_and_looks_back_by_speed() -> None:
    assert (Lengths(56, 16), Lengths(36, 25)) == (COARSE, PRECISE)
    assert COARSE.widening == pytest.approx(120 / 104) and PRECISE.widening == pytest.approx(136 / 111)
    assert [calls_back(v) for v in (0, 4, 6, 9, 12)] == [6, 6, 5, 3, 1]


def layout(points: list[list[float]], end_effector: tuple[float, float, float] = (0, 0, 0)) -> TokenLayout:
    """One patch, and point groups; tokens are 5 cm apart."""
    at, patches = np.array(points, np.float32), np.zeros((1, len(points)), int)
    place = np.array(end_effector, np.float32)
    return TokenLayout(("image",), ((1, 1),), np.zeros((1, 3)), at, patches, np.eye(4)[None], place, 0.05)


def test_groups_inherit_from_the_nearest_and_patches_from_their_place() -> None:
    then, now = layout([[0, 0, 0], [1, 0, 0]]), layout([[0.9, 0, 0], [0.1, 0, 0], [0.8, 0, 0]])
    assert inherited(then, now).tolist() == [0, 2, 1, 2]


def test_specprune_is_precise_when_slow_until_it_rises() -> None:
    pruner, points, modes = SpecPrunePruner(0.5), [[0.0, 0, 0], [1, 0, 0]], []
    for x, z in ((0, 0), (0.03, 0), (0.04, 0), (0.08, 0), (0.08, 0.02), (0.12, 0.02)):
        frame = layout(points, (x, 0, z))
        rule = pruner.rule(frame, 2)
        assert isinstance(rule, StaticAndUnattended)
        modes.append(rule.lengths)
        pruner._seen[0] = torch.eye(3)
        evidence = SimpleNamespace(norm=np.ones(3), attention=np.ones(3))
        pruner.observe(frame, Selection.full(frame), evidence)  # type: ignore[arg-type]
    # Nothing known; 0.6 spacings; 0.2, slow; fast but no higher; it rises by 0.4; fast.
    assert modes == [COARSE, COARSE, PRECISE, PRECISE, COARSE, COARSE]


# VLA-Cache


def test_vla_cache_reuses_more_where_attention_is_narrow_and_damps_rises() -> None:
    # 1 - normalised entropy is 0, 0.5, 0.25, 1; a rise counts 0.55, from the damped value before it.
    shares = reuse_shares([2.0, 1.0, 1.5, 0.0])
    assert shares == pytest.approx([0, 0.55 * 0.5, 0.25, 0.25 + 0.55 * 0.75])


def test_vla_cache_takes_its_layers_in_proportion() -> None:
    assert [layers_of(depth) for depth in (32, 12, 6, 4)] == [(2, 6, 9, 11), (1, 2, 3, 4), (1, 2), (1,)]


def test_vla_cache_lets_static_unattended_tokens_leave_in_order_of_their_index() -> None:
    then, now = turned(12, t0=0.5, t1=0.2)
    attention = torch.linspace(0, 0.1, 12)  # 11 and 10 are attended to most
    last = Shown(then, (12, 12, 2), attention)
    shares = [0.0] * 32
    shares[2], shares[6], shares[9] = 0.3, 0.1, 0.6  # of the 8 that may leave: 2, at least 1, 4
    rule = Reuse(4, CallMemory(object()), last, shares)
    gone = {}
    for layer in range(1, 33):
        stays = rule.choose(shown(now, layer, 32))
        if stays is not None:
            gone[layer] = sorted(set(range(12)) - set(stays.tolist()))
    assert gone == {2: [2, 3], 6: [2, 3], 9: [2, 3, 4, 5], 11: [2, 3, 4, 5, 6, 7, 8, 9]}


@pytest.mark.parametrize("form", [(13, 12, 2), (12, 11, 2), (12, 12, 3)])
def test_vla_cache_starts_afresh_where_tokens_are_others(form: tuple[int, ...]) -> None:
    then, now = turned(12)
    rule = Reuse(4, CallMemory(object()), Shown(then, form, torch.ones(12)), [0.5] * 4)
    assert all(rule.choose(shown(now, layer)) is None for layer in range(1, 5))


# In the engine


@dataclass
class Leave(InCallRule):
    """Lets tokens leave as it is told: layer -> those that stay."""

    stays: dict[int, list[int]]
    memory: CallMemory | None = None

    def layers(self, depth: int) -> tuple[int, ...]:
        return (1, 2)

    def choose(self, view: CallView) -> Tensor | None:
        assert view.attention is not None and view.attention.shape[1] == 26 and view.depth == 3
        return torch.tensor(self.stays[view.layer]) if view.layer in self.stays else None


def states(model: MVLAModel, seed: int, before: list[Tensor], gone: dict[int, list[int]]) -> list[Tensor]:
    """What goes into each layer and comes out of the last, by plain layers over all tokens: those that are gone (by
    layers that have run) are what they were ``before``."""
    prefix = model.tokenize(make_batch(seed))
    hidden = torch.cat([prefix.tokens, model.action_queries[None]], 1)
    positions = torch.cat([prefix.positions, model.action_positions(1, hidden.device)], 1)
    rope, seen = model.backbone.rotary_emb(hidden, positions), []
    for index, layer in enumerate(model.backbone.layers):
        if index in gone:
            left = prefix.visual[gone[index]]
            hidden = hidden.index_copy(1, left, before[index][:, left])
        seen.append(hidden)
        hidden = layer(hidden, position_embeddings=rope, attention_rows=())
    return [*seen, hidden]


def test_tokens_that_leave_are_attended_to_as_they_were_in_the_call_before() -> None:
    """Twice in a row: what was reused once may be reused again."""
    model, memory = make_model("l1"), CallMemory()
    stays = {1: [*range(0, 26, 2), 25], 2: [0, 4, 20, 24]}
    gone = {layer: sorted(set(range(26)) - set(left)) for layer, left in stays.items()}
    prefix = model.tokenize(make_batch(0))
    before = states(model, 0, [], {})
    model.decode(prefix, rule=Leave({}, memory))
    for seed in (1, 2):
        memory = CallMemory(memory.after)
        expected = states(model, seed, before, gone)
        got, out = model.decode(model.tokenize(make_batch(seed)), evidence=True, rule=Leave(stays, memory))
        features = model.final_norm(expected[-1])
        torch.testing.assert_close(got, model.action_head(features[:, -5:]))
        norm = expected[-2][:, prefix.visual[stays[2]]].abs().mean(-1)
        torch.testing.assert_close(out.norm, norm)
        assert out.attention is not None and out.attention.shape == norm.shape
        assert out.computed == pytest.approx((26 + 14 + 4) / 3)
        before = expected


def test_evidence_of_a_frozen_scene_is_that_of_the_full_call() -> None:
    model, memory, stays = make_model("l1"), CallMemory(), {1: [*range(0, 26, 2), 25], 2: [0, 4, 20, 24]}
    prefix = model.tokenize(make_batch())
    _, full = model.decode(prefix, evidence=True, rule=Leave({}, memory))
    _, out = model.decode(prefix, evidence=True, rule=Leave(stays, CallMemory(memory.after)))
    for got, expected in ((out.attention, full.attention), (out.norm, full.norm)):
        assert got is not None and expected is not None
        torch.testing.assert_close(got, expected[:, stays[2]])


def test_tokens_dropped_in_two_layers_leave_evidence_of_those_that_remain() -> None:
    model = make_model("l1")
    stays = {1: [0, 3, 9, 17, 25], 2: [3, 9, 25]}
    prefix = model.tokenize(make_batch())
    _, out = model.decode(prefix, evidence=True, rule=Leave(stays))
    assert out.chosen is not None and out.chosen.tolist() == [3, 9, 25] and out.computed == pytest.approx(34 / 3)
    assert out.norm is not None and out.attention is not None
    assert out.norm.shape == out.attention.shape == (1, 3)
    model.config = replace(model.config, evidence_layers=(1,))  # which ran before the second cut
    _, both = model.decode(prefix, evidence=True, rule=Leave(stays))
    _, first = model.decode(prefix, evidence=True, rule=Leave({1: stays[1]}))
    assert both.attention is not None and first.attention is not None
    torch.testing.assert_close(both.attention, first.attention[:, [1, 2, 4]])


def test_reuse_holds_for_all_denoising_steps() -> None:
    model, stays = make_model("ddim"), {1: [0, 5, 16, 25]}
    noise = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(1))
    memory = CallMemory()
    model.decode(model.tokenize(make_batch(0)), noise=noise, rule=Leave({}, memory))
    results = []
    for reuse_prefix in (True, False):
        rule = Leave(stays, CallMemory(memory.after))
        chunk, _ = model.decode(model.tokenize(make_batch(1)), noise=noise, rule=rule, reuse_prefix=reuse_prefix)
        results.append(chunk)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    plain, _ = model.decode(model.tokenize(make_batch(1)), noise=noise)
    assert (plain - results[0]).abs().max() > 1e-4


# Through the runtime


def runtimes(kind: str, folder: Path, *prunings: tuple[str, float]) -> list[PolicyRuntime]:
    """A policy with the same weights for each pruning."""
    made = []
    for method, keep in prunings:
        policy = random_mla_policy(MLA, "cpu", torch.float32) if kind == "mla" else policies(folder, kind)[0]
        made.append(PolicyRuntime(policy, make_pruner(method, keep)))
    return made


@pytest.fixture
def seen(observation: MakeObservation) -> Callable[[str, int], Observation]:
    """An observation for a policy of a kind, by its seed."""

    def see(kind: str, seed: int) -> Observation:
        one = observation(seed)
        if kind != "mla":
            return one
        state = replace(one.state, last_command=np.array([0, 0.6, 0.2, 1, 0, 0, 0]))
        return replace(one, state=state, views=tuple(replace(one.views[0], name=name) for name in MLA.views))

    return see


KINDS = ("l1", "ddim", "mla")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_first_call_and_keep_ratio_one_are_the_unpruned_call_bit_for_bit(
    method: str, kind: str, tiny_policy_folder: Path, seen: Callable[[str, int], Observation]
) -> None:
    plain, whole, half = runtimes(kind, tiny_policy_folder, ("none", 1.0), (method, 1.0), (method, 0.5))
    for call in range(3):
        expected, got = plain.infer(seen(kind, call)), whole.infer(seen(kind, call))
        np.testing.assert_array_equal(got.chunk.actions, expected.chunk.actions)
        assert got.selection.spent_ratio == 1
        if call == 0:
            first = half.infer(seen(kind, call))
            np.testing.assert_array_equal(first.chunk.actions, expected.chunk.actions)
            assert first.selection.is_full and first.selection.spent_ratio == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_later_calls_keep_the_budget_say_what_they_spent_and_reset_forgets(
    method: str, kind: str, tiny_policy_folder: Path, seen: Callable[[str, int], Observation]
) -> None:
    (runtime,) = runtimes(kind, tiny_policy_folder, (method, 0.5))
    episodes = []
    for _ in range(2):
        runtime.reset()
        calls = [runtime.infer(seen(kind, seed)) for seed in (0, 0, 1, 2)]
        assert calls[0].selection.is_full
        for call in calls[1:]:
            assert call.selection.keep_ratio == pytest.approx(0.5, abs=0.01)
            assert 0.5 < call.selection.spent_ratio < 0.85  # a layer or two run over more
        episodes.append(np.stack([call.chunk.actions for call in calls]))
    np.testing.assert_array_equal(*episodes)


@pytest.mark.parametrize("kind", KINDS)
def test_vla_cache_of_a_frozen_scene_is_the_unpruned_call(
    kind: str, tiny_policy_folder: Path, seen: Callable[[str, int], Observation]
) -> None:
    plain, cached = runtimes(kind, tiny_policy_folder, ("none", 1.0), ("vla_cache", 0.25))
    for _ in range(4):
        expected, got = plain.infer(seen(kind, 0)).chunk.actions, cached.infer(seen(kind, 0))
        np.testing.assert_allclose(got.chunk.actions, expected, rtol=1e-3, atol=1e-4)
    assert got.selection.keep_ratio < 0.3


def test_vla_cache_starts_afresh_with_another_length_of_the_prompt(seen: Callable[[str, int], Observation]) -> None:
    runtime = PolicyRuntime(random_mla_policy(MLA, "cpu", torch.float32), make_pruner("vla_cache", 0.5))
    words = ("close the box", "close the box", "go", "go")
    full = [runtime.infer(replace(seen("mla", 0), instruction=said)).selection.is_full for said in words]
    assert full == [True, False, True, False]


def test_vla_cache_holds_the_keys_of_one_call_only(
    tiny_policy_folder: Path, seen: Callable[[str, int], Observation]
) -> None:
    (runtime,) = runtimes("ddim", tiny_policy_folder, ("vla_cache", 0.5))
    pruner, held = runtime.pruner, []
    assert isinstance(pruner, VlaCachePruner)
    for seed in range(3):
        runtime.infer(seen("ddim", seed))
        assert pruner._last is not None
        held.append(weakref.ref(pruner._last[2]))
    assert [ref() is None for ref in held] == [True, True, False]
    runtime.reset()
    assert held[-1]() is None
