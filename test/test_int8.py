"""MLA policies with the weights of their backbone in 8 bits."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from mvla_pruned_ros.policy.engine.backbone import Prefix, run_backbone
from mvla_pruned_ros.policy.engine.device import resolve_precision
from mvla_pruned_ros.policy.engine.weight_files import write_shards
from mvla_pruned_ros.policy.mla.checkpoint import load_weights
from mvla_pruned_ros.policy.mla.config import MLAConfig
from mvla_pruned_ros.policy.mla.model import MLAModel
from mvla_pruned_ros.policy.mla.policy import MLAPolicy
from mvla_pruned_ros.policy.mla.presets import MLA_PRESETS
from mvla_pruned_ros.policy.mla.random_weights import random_mla_model
from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy

CONFIG: MLAConfig = MLA_PRESETS["mla-small"]
CPU = torch.device("cpu")
needs_torchao = pytest.mark.skipif(
    importlib.util.find_spec("torchao") is None, reason="torchao is not installed here: pip install '.[int8]'"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights on disk, in several shards."""
    path = tmp_path_factory.mktemp("mla")
    weights = random_mla_model(CONFIG, CPU, torch.bfloat16).state_dict()
    write_shards(path, {name: w.shape for name, w in weights.items()}, torch.bfloat16, weights.__getitem__, 2**22)
    return path


def loaded(folder: Path, int8: bool) -> MLAModel:
    model = MLAModel.empty(CONFIG, CPU)
    load_weights(model, folder, CPU, int8)
    return model.requires_grad_(False)


def stored_bytes(module: torch.nn.Module) -> int:
    """What its linear layers hold."""
    total = 0
    for layer in module.modules():
        if isinstance(layer, torch.nn.Linear):
            names = getattr(layer.weight, "tensor_data_names", None)
            parts = [getattr(layer.weight, name) for name in names] if names else [layer.weight]
            total += sum(part.untyped_storage().nbytes() for part in parts)
    return total


@needs_torchao
@torch.inference_mode()
def test_backbone_takes_half_the_memory_and_gives_nearly_the_same(folder: Path) -> None:
    plain, small = loaded(folder, int8=False), loaded(folder, int8=True)
    assert 0.49 < stored_bytes(small.backbone) / stored_bytes(plain.backbone) < 0.53
    tokens = torch.randn(1, 40, CONFIG.width, generator=torch.Generator().manual_seed(0)).bfloat16()
    places, features = torch.arange(40)[None], []
    for model in (plain, small):
        prefix = Prefix(tokens[:, :32], places[:, :32], torch.arange(4, 20), 8)
        features.append(run_backbone(model.backbone, model.final_norm, prefix, tokens[:, 32:], places[:, 32:]).hidden)
    one, other = (x.float().flatten(1) for x in features)
    assert torch.nn.functional.cosine_similarity(one, other) > 0.999 and not torch.equal(one, other)


@needs_torchao
def test_all_but_the_backbone_stays_as_it_is(folder: Path) -> None:
    plain, small = loaded(folder, int8=False).state_dict(), loaded(folder, int8=True).state_dict()
    others = [name for name in plain if not name.startswith("backbone.layers.")]
    assert others and all(torch.equal(plain[name], small[name]) for name in others)


def test_it_is_refused_where_it_has_no_use_or_cannot_be(
    tiny_policy_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_precision("int8", CPU) == torch.bfloat16
    with pytest.raises(ValueError, match="precision 'int8' is for MLA policies"):
        MVLAPolicy.load(tiny_policy_folder, precision="int8")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchao" else found(name))
    with pytest.raises(ValueError, match=r"needs torchao: pip install 'mvla_pruned_ros\[int8\]'"):
        MLAPolicy.load(folder, precision="int8")
