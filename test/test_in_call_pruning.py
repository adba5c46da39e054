"""Published methods that choose inside the policy call: what each keeps, and that only kept tokens act."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_mvla import make_batch, make_model
from torch import Tensor

from mvla_pruned_ros.policy.mvla.model import Batch, MVLAModel
from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
from mvla_pruned_ros.policy.runtime import PolicyRuntime
from mvla_pruned_ros.pruning.baselines.dart import LeastDuplicated
from mvla_pruned_ros.pruning.baselines.divprune import most_diverse
from mvla_pruned_ros.pruning.baselines.fastv import AttentionOfLastToken
from mvla_pruned_ros.pruning.baselines.in_call_pruner import RunningBudget
from mvla_pruned_ros.pruning.baselines.vla_adp import RelevanceToText, VlaAdpPruner
from mvla_pruned_ros.pruning.baselines.vla_pruner import PrefillAndAction
from mvla_pruned_ros.pruning.in_call import CallView, InCallRule
from mvla_pruned_ros.pruning.methods import make_pruner
from mvla_pruned_ros.types import Observation

IN_CALL = ("fastv", "divprune", "dart", "vla_pruner", "vla_adp", "specprune", "vla_cache")
MakeObservation = Callable[..., Observation]


@dataclass(frozen=True)
class Keep(InCallRule):
    """A rule that keeps what it is told."""

    layer: int
    chosen: tuple[int, ...]

    def layers(self, depth: int) -> tuple[int, ...]:
        return (self.layer,)

    def choose(self, view: CallView) -> Tensor:
        return torch.tensor(self.chosen)


def view(**changes: object) -> CallView:
    embeddings = torch.eye(6).repeat(2, 1)  # tokens i and i + 6 are duplicates; 8 image and 4 point tokens
    attention = torch.linspace(0, 0.05, 36).reshape(3, 12)
    return replace(CallView(embeddings, 8, torch.eye(6)[:2], attention, lambda: torch.arange(12.0)), **changes)


def test_fastv_keeps_what_the_last_token_attends_to() -> None:
    attention = torch.rand(3, 12)
    attention[-1] = 0
    attention[-1, [2, 5, 9]] = torch.tensor([0.1, 0.3, 0.2])
    assert AttentionOfLastToken(3).choose(view(attention=attention)).tolist() == [2, 5, 9]


def test_divprune_takes_one_of_each_pair_of_duplicates() -> None:
    chosen = most_diverse(view().embeddings, 6)
    assert sorted(i % 6 for i in chosen.tolist()) == list(range(6))


def test_divprune_is_the_plain_greedy_choice() -> None:
    tokens = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(tokens, dim=-1)
    distance = (1 - unit @ unit.T).numpy()
    apart = distance + np.eye(30) * 9
    plain = [int(apart.min(1).argmax())]
    while len(plain) < 12:
        rest = [i for i in range(30) if i not in plain]
        plain.append(max(rest, key=lambda i: distance[i, plain].min()))
    assert most_diverse(tokens, 12).tolist() == plain


def test_dart_keeps_pivots_first_and_gives_each_modality_its_share() -> None:
    loud = view().embeddings.clone()
    loud[[1, 3]] *= 5  # highest L1 norms of the image
    chosen = LeastDuplicated(9).choose(view(embeddings=loud)).tolist()
    assert len(chosen) == 9 and {1, 3} <= set(chosen)
    assert sum(i < 8 for i in chosen) == 6


def test_vla_pruner_unites_prompt_and_action_attention_and_thins_by_diversity() -> None:
    attention = torch.zeros(3, 12)
    attention[0, [0, 1, 2]] = 1.0
    action = np.zeros(12, np.float32)
    action[[6, 7, 8]] = 1.0  # duplicates of 0, 1, 2
    chosen = PrefillAndAction(3, torch.from_numpy(action)).choose(view(attention=attention)).tolist()
    assert sorted(i % 6 for i in chosen) == [0, 1, 2]


def test_vla_adp_keeps_what_the_text_asks_for_in_each_modality() -> None:
    assert RelevanceToText(6).choose(view()).tolist() == [4, 5, 6, 7, 10, 11]


@pytest.mark.parametrize("method", IN_CALL)
def test_method_keeps_its_budget_on_average_after_a_full_first_call(
    method: str, tiny_policy_folder: Path, observation: MakeObservation
) -> None:
    runtime = PolicyRuntime(MVLAPolicy.load(tiny_policy_folder), make_pruner(method, 0.5))
    kept = [runtime.infer(observation()).selection.keep_ratio for _ in range(24)]
    assert kept[0] == 1.0
    assert 0.45 <= np.mean(kept[1:]) <= 0.62  # vla_pruner fills its window and vla_adp's gate opens now and then
    assert min(kept) >= 0.25 - 0.05


def test_vla_adp_prunes_when_the_arm_speeds_up_and_not_when_it_slows_down() -> None:
    pruner = VlaAdpPruner(0.5)
    pruner._calls, pruner._last = 1, np.zeros(3)
    pruner._motions.extend([0.02, 0.03])
    layout = lambda x: type("L", (), {"end_effector": np.array([x, 0, 0])})()  # noqa: E731
    assert pruner.rule(layout(0.01), 5) is None
    assert pruner.rule(layout(0.05), 5) is not None


def test_full_calls_are_paid_for_by_those_that_follow() -> None:
    budget, kept = RunningBudget(), []
    for call in range(40):
        ratio = 1.0 if call == 0 else budget.ratio(0.5)
        budget.spent(ratio, 0.5)
        kept.append(ratio)
    assert np.mean(kept) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("layer", [0, 1])
def test_keeping_every_token_by_rule_changes_nothing(layer: int, model: MVLAModel, batch: Batch) -> None:
    everything = Keep(layer, tuple(range(model.config.num_visual)))
    assert torch.equal(predict(model, batch, everything), predict(model, batch, None))


def test_a_rule_before_the_backbone_equals_encoding_only_what_it_keeps(model: MVLAModel, batch: Batch) -> None:
    chosen = (0, 5, 11, 16 + 2, 16 + 7)
    kept = replace(batch, image_kept=torch.tensor([[0, 5, 11]]), points_kept=torch.tensor([[2, 7]]))
    torch.testing.assert_close(predict(model, batch, Keep(0, chosen)), predict(model, kept, None))


def test_tokens_dropped_after_a_layer_act_through_that_layer_only(model: MVLAModel, batch: Batch) -> None:
    """Eager reference: the first layer over all tokens, the others over what is left."""
    chosen = torch.tensor([1, 4, 12, 16 + 3])
    prefix = model.tokenize(batch)
    queries = model.action_queries.expand(1, -1, -1)
    sequence = torch.cat([prefix.tokens, queries], 1)
    positions = torch.cat([prefix.positions, model.action_positions(1, sequence.device)], 1)
    hidden = sequence
    for index, layer in enumerate(model.backbone.layers):
        if index == 1:
            gone = set(prefix.visual.tolist()) - set(prefix.visual[chosen].tolist())
            left = torch.tensor([i for i in range(hidden.shape[1]) if i not in gone])
            hidden, positions = hidden[:, left], positions[:, left]
        rope = model.backbone.rotary_emb(hidden, positions)
        hidden = layer(hidden, position_embeddings=rope, attention_rows=())
    expected = model.action_head(model.final_norm(hidden[:, -model.config.chunk_size :]))
    torch.testing.assert_close(predict(model, batch, Keep(1, tuple(chosen.tolist()))), expected)


def test_the_choice_of_the_first_denoising_step_holds_for_all(batch: Batch) -> None:
    model = make_model("ddim")
    noise = torch.randn(1, model.config.chunk_size, 4, generator=torch.Generator().manual_seed(1))
    prefix = model.tokenize(batch)
    rule = AttentionOfLastToken(6)
    cached, out = model.decode(prefix, noise=noise, rule=rule)
    again, _ = model.decode(prefix, noise=noise, rule=rule, reuse_prefix=False)
    assert out.chosen is not None and len(out.chosen) == 6
    torch.testing.assert_close(cached, again, rtol=1e-4, atol=1e-5)


def test_a_policy_that_ignores_the_rule_is_found_out(tiny_policy_folder: Path, observation: MakeObservation) -> None:
    policy = MVLAPolicy.load(tiny_policy_folder)
    act = policy.act
    policy.act = lambda p, s, i, t: replace(act(p, replace(s, rule=None), i, t), selection=s)  # type: ignore[method-assign]
    runtime = PolicyRuntime(policy, make_pruner("fastv", 0.5))
    runtime.infer(observation())
    with pytest.raises(ValueError, match="ignored the rule of method 'fastv'"):
        runtime.infer(observation())


def predict(model: MVLAModel, batch: Batch, rule: Keep | None) -> Tensor:
    prefix = model.tokenize(batch)
    if rule is not None and rule.layer == 0:
        prefix, _ = prefix.keep_visual(rule.choose(model.call_view(prefix)))
        rule = None
    return model.decode(prefix, rule=rule)[0]


@pytest.fixture
def model() -> MVLAModel:
    return make_model("l1")


@pytest.fixture
def batch() -> Batch:
    return make_batch()
