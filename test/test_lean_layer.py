"""Lean layers against transformers' own."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from mvla_pruned_ros.policy.engine.attention import NAME, AttentionRows, PrefixCache, attend
from mvla_pruned_ros.policy.engine.backbone import Prefix, run_backbone, text_scores
from mvla_pruned_ros.policy.engine.executor import Executor
from mvla_pruned_ros.policy.engine.lean_layer import LeanLayer, make_lean
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.mvla.model import MVLAModel
from mvla_pruned_ros.pruning.in_call import CallView, FixedChoice

WIDTH, BEFORE, ACTIONS = 48, 20, 5
NOTHING = torch.empty(0)
LAYER_ONE = CallView(NOTHING, 0, NOTHING, None, lambda: NOTHING, layer=1)  # a fixed choice looks at nothing else


def models(kv_heads: int, dtype: torch.dtype = torch.float32) -> tuple[LlamaModel, LlamaModel]:
    """A model with norms that are not 1, as it is and with lean layers."""
    torch.manual_seed(0)
    plain = LlamaModel(
        LlamaConfig(
            vocab_size=8, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=3, num_attention_heads=6,
            num_key_value_heads=kv_heads, attn_implementation=NAME,
        )
    )  # fmt: skip
    plain = plain.to(dtype).eval().requires_grad_(False)
    for layer in plain.layers:
        layer.input_layernorm.weight.uniform_(0.5, 1.5)
        layer.post_attention_layernorm.weight.uniform_(0.5, 1.5)
    lean = copy.deepcopy(plain)
    make_lean(lean)
    assert all(isinstance(layer, LeanLayer) for layer in lean.layers)
    return plain, lean


def passes(
    llama: LlamaModel, dtype: torch.dtype = torch.float32, rule: FixedChoice | None = None
) -> list[torch.Tensor]:
    """Hidden and evidence of a first pass and of one on its cache."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(1, BEFORE, WIDTH, generator=generator).to(dtype)
    positions = 3 * torch.arange(BEFORE)[None]  # gaps, as pruning leaves them
    prefix, found = Prefix(tokens, positions, torch.arange(4, BEFORE), 10), []

    cache = PrefixCache()
    for call in range(2):
        action = torch.randn(1, ACTIONS, WIDTH, generator=generator).to(dtype)
        rows = AttentionRows((1, 2), ACTIONS) if call == 0 else None
        out = run_backbone(
            llama, torch.nn.Identity(), prefix, action, 100 + torch.arange(ACTIONS)[None], evidence=rows, cache=cache,
            rule=rule if call == 0 else None, shown=lambda *_: LAYER_ONE,
        )  # fmt: skip
        found += [x for x in (out.hidden, out.norm, out.attention) if x is not None]
    return found


@pytest.mark.parametrize("kv_heads", [6, 2], ids=["every head its own", "grouped"])
@pytest.mark.parametrize(
    "rule", [None, FixedChoice({1: torch.tensor([0, 3, 7, 11])})], ids=["all", "a rule drops some"]
)
@torch.inference_mode()
def test_lean_layers_give_what_plain_ones_give(kv_heads: int, rule: FixedChoice | None) -> None:
    plain, lean = models(kv_heads)
    for expected, got in zip(passes(plain, rule=rule), passes(lean, rule=rule), strict=True):
        assert (got - expected).norm() <= 1e-5 * expected.norm()


@torch.inference_mode()
def test_rows_that_look_back_on_a_prefix_get_what_the_fused_kernel_gives() -> None:
    first, later = (torch.randn(3, 2, 6, n, 8, generator=torch.Generator().manual_seed(n)) for n in (BEFORE, ACTIONS))
    cache, keys = PrefixCache(), BEFORE
    attend(*first, 0, None, (), cache)
    got = attend(*later, 0, None, (), cache, scaling=0.5)
    key, value = (torch.cat([a[:, :, : keys - ACTIONS], b], 2) for a, b in zip(first[1:], later[1:]))
    mask = torch.ones(ACTIONS, keys, dtype=torch.bool).tril(keys - ACTIONS)
    expected = torch.nn.functional.scaled_dot_product_attention(later[0], key, value, attn_mask=mask, scale=0.5)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_half_precision_differs_by_its_rounding_only() -> None:
    plain, lean = models(6, torch.bfloat16)
    for expected, got in zip(passes(plain, torch.bfloat16), passes(lean, torch.bfloat16), strict=True):
        assert got.dtype == expected.dtype
        assert (got - expected).norm() <= 0.03 * expected.norm()


@torch.inference_mode()
def test_relevance_to_a_text_is_the_same() -> None:
    plain, lean = models(2)
    text, visual = torch.randn(3, WIDTH), torch.randn(9, WIDTH)
    torch.testing.assert_close(text_scores(lean, text, visual), text_scores(plain, text, visual), rtol=1e-4, atol=1e-4)


def test_executor_makes_its_model_lean_once_and_holds_no_weight_twice() -> None:
    model = MVLAModel(MVLAConfig(width=32, heads=2, mlp_width=48), 10).requires_grad_(False).eval()
    before = sum(p.numel() for p in model.backbone.layers.parameters())
    for _ in range(2):
        Executor(model, torch.device("cpu"))
    assert all(isinstance(layer, LeanLayer) for layer in model.backbone.layers)
    norms = 2 * 32 * len(model.backbone.layers)  # their scales lie in the weights
    assert sum(p.numel() for p in model.backbone.layers.parameters()) == before - norms
