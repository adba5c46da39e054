"""Policy folders: what is written is read back, and what is broken is refused with a reason."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.models import policy_folder
from mvla_pruned_ros.policy.engine.weight_files import INDEX, CheckpointError
from mvla_pruned_ros.policy.fingerprint import policy_fingerprint
from mvla_pruned_ros.policy.mvla.checkpoint import load_policy_parts, save_policy
from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
from mvla_pruned_ros.policy.mvla.repack import is_policy_folder, repack

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tiny_policy_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tiny_policy_folder, tmp_path / "policy"))


def edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    weights = load_file(folder / WEIGHTS)
    for name, value in changes.items():
        key = name.replace("__", ".")
        if value is None:
            del weights[key]
        else:
            weights[key] = value
    save_file(weights, folder / WEIGHTS)


def edit_config(folder: Path, **changes: Any) -> None:
    entries = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(entries | changes))


def test_what_is_saved_is_loaded(folder: Path, tmp_path: Path) -> None:
    model, tokenizer, normalization = load_policy_parts(folder)
    (tmp_path / "copy").mkdir()
    save_policy(tmp_path / "copy", model, tokenizer, normalization)
    again, tokenizer_again, normalization_again = load_policy_parts(tmp_path / "copy")
    assert again.config == model.config
    weights, weights_again = model.state_dict(), again.state_dict()
    assert weights.keys() == weights_again.keys()
    assert all(torch.equal(weights[key], weights_again[key]) for key in weights)
    text = "open the faucet"
    np.testing.assert_array_equal(tokenizer.encode(text), tokenizer_again.encode(text))
    np.testing.assert_array_equal(normalization.q99, normalization_again.q99)
    assert not (tmp_path / "copy" / f"{WEIGHTS}.partial").exists()


def test_loaded_model_is_ready_to_act(folder: Path) -> None:
    model = load_policy_parts(folder)[0]
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no policy folder at .*nowhere"):
        MVLAPolicy.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "normalization.json", "tokenizer.json"])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        MVLAPolicy.load(folder)


@pytest.mark.parametrize(
    "name, content",
    [
        (name, content)
        for name in ("config.json", WEIGHTS, "normalization.json", "tokenizer.json")
        for content in (b"", b"{}", b"[1, 2]", b"\x80\x04\xff not text", b"null")
    ],
)
def test_file_of_another_kind_is_refused_by_name(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        MVLAPolicy.load(folder)


def test_configuration_without_the_period_of_actions_is_refused(folder: Path) -> None:
    entries = json.loads((folder / "config.json").read_text())
    del entries["step_s"]
    (folder / "config.json").write_text(json.dumps(entries))
    with pytest.raises(CheckpointError, match=r"config\.json has no entry step_s: add the seconds"):
        MVLAPolicy.load(folder)


def test_every_missing_and_unknown_key_is_named(folder: Path) -> None:
    edit_weights(folder, action_queries=None, action_head__0__bias=None, surprise=torch.zeros(3))
    with pytest.raises(CheckpointError) as error:
        MVLAPolicy.load(folder)
    for part in ("missing action_queries", "missing action_head.0.bias", "unknown surprise", WEIGHTS):
        assert part in str(error.value)


def test_wrong_shape_is_named_with_both_shapes(folder: Path) -> None:
    edit_weights(folder, action_queries=torch.zeros(8, 128))
    with pytest.raises(CheckpointError, match=r"action_queries has shape \(8, 128\), needs \(16, 128\)"):
        MVLAPolicy.load(folder)


def test_configuration_of_another_network_names_the_keys_that_do_not_fit(folder: Path) -> None:
    edit_config(folder, width=64)
    with pytest.raises(CheckpointError, match=r"action_head.0.weight has shape \(128, 128\), needs \(64, 64\)"):
        MVLAPolicy.load(folder)


def test_vocabulary_of_another_size_is_refused(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["somersault"] = len(tokenizer["model"]["vocab"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match="embed_tokens.weight has shape"):
        MVLAPolicy.load(folder)


def test_tokenizer_without_the_special_tokens_is_refused(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text().replace("[PAD]", "<pad>")
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"tokenizer.json has no \[PAD\]"):
        MVLAPolicy.load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(folder: Path, value: float) -> None:
    bias = torch.zeros(4)
    bias[2] = value
    edit_weights(folder, action_head__2__bias=bias)
    with pytest.raises(CheckpointError, match=r"action_head.2.bias has values that are not finite"):
        MVLAPolicy.load(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused(folder: Path, share: float) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        MVLAPolicy.load(folder)


class _Exploit:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_pickle_renamed_to_safetensors_is_refused_and_not_executed(folder: Path, tmp_path: Path, writer: str) -> None:
    trace = tmp_path / "was executed"
    with (folder / WEIGHTS).open("wb") as file:
        (pickle.dump if writer == "pickle" else torch.save)(_Exploit(trace), file)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        MVLAPolicy.load(folder)
    assert not trace.exists()


def test_normalisation_of_another_action_is_refused_with_both_sizes(folder: Path) -> None:
    entry = {"action": {"q01": [-1.0] * 7, "q99": [1.0] * 7}}
    (folder / "normalization.json").write_text(json.dumps(entry))
    with pytest.raises(CheckpointError, match="for 7 action values, config.json says 4"):
        MVLAPolicy.load(folder)


def test_configuration_of_another_action_is_refused_with_both_sizes(folder: Path) -> None:
    edit_config(folder, action_dim=7)
    with pytest.raises(CheckpointError, match="for 4 action values, config.json says 7"):
        MVLAPolicy.load(folder)
    entry = {"action": {"q01": [-1.0] * 7, "q99": [1.0] * 7}}
    (folder / "normalization.json").write_text(json.dumps(entry))
    with pytest.raises(CheckpointError, match=r"action_head.2.bias has shape \(4,\), needs \(7,\)"):
        MVLAPolicy.load(folder)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_wheels": 4}, "num_wheels"),
        ({"width": "128"}, "width"),
        ({"depth": 2.5}, "depth"),
        ({"chunk_size": None}, "chunk_size"),
        ({"step_s": "fast"}, "step_s"),
        ({"step_s": 0.0}, "step_s"),
        ({"workspace_lower": 3}, "workspace_lower"),
        ({"workspace_lower": [0.0, 0.0]}, "workspace_lower"),
        ({"workspace_lower": [9.0, 0.0, 0.0]}, "workspace"),
        ({"token_order": "image"}, "token_order"),
        ({"head": 7}, "head"),
        ({"evidence_layers": [1.5]}, "evidence_layers"),
        ({"ddim_steps": 60, "head": "ddim"}, "60 of 100"),
    ],
)
def test_ill_typed_or_impossible_configuration_is_refused_by_name(
    folder: Path, change: dict[str, Any], message: str
) -> None:
    edit_config(folder, **change)
    with pytest.raises(CheckpointError, match=message):
        MVLAPolicy.load(folder)


def test_policy_is_found_by_path_and_an_unknown_name_lists_the_shipped_ones(folder: Path) -> None:
    assert policy_folder(str(folder)) == folder
    with pytest.raises(ValueError, match="no policy 'large': .* shipped: .*small"):
        policy_folder("large")


# Repacked: half precision, several files


def test_repacked_policy_is_loaded_like_any_other_and_is_the_same_but_for_rounding(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "log.csv").write_text("step,loss,seconds\n")
    (folder / "training.pt").write_bytes(b"not for others")
    counts: list[tuple[int, int]] = []
    repack(folder, tmp_path / "out", shard_bytes=200_000, on_tensor=lambda *count: counts.append(count))
    out = tmp_path / "out"
    shards = sorted(out.glob("model-*.safetensors"))
    assert len(shards) > 1 and not (out / WEIGHTS).exists() and not (out / "training.pt").exists()
    assert (out / "log.csv").read_bytes() == (folder / "log.csv").read_bytes()
    assert counts[-1][0] == counts[-1][1] == len(counts)
    before, after = (load_policy_parts(place)[0].state_dict() for place in (folder, out))
    for name, value in before.items():
        assert after[name].dtype == torch.float32
        assert torch.equal(after[name], value.half().float())
    assert policy_fingerprint(out) != policy_fingerprint(folder)


def test_repacked_files_stay_below_the_size_that_was_asked_for(folder: Path, tmp_path: Path) -> None:
    repack(folder, tmp_path / "out", shard_bytes=200_000)
    largest = max(value.numel() * 2 for value in load_policy_parts(folder)[0].state_dict().values())
    for shard in (tmp_path / "out").glob("model-*.safetensors"):
        assert shard.stat().st_size < max(200_000, largest) + 8_000  # its header


def test_convert_repacks_a_policy_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert is_policy_folder(folder)
    assert main(["convert", str(folder), str(tmp_path / "out")]) == 0
    assert "float16" in capsys.readouterr().out
    assert is_policy_folder(tmp_path / "out")
    assert main(["convert", str(folder), str(tmp_path / "out")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["convert", str(folder), str(tmp_path / "more"), "--dataset", "rlbench"]) == 2
    assert "--dataset is for upstream checkpoints" in capsys.readouterr().err


def test_weights_that_half_precision_cannot_hold_are_named(folder: Path, tmp_path: Path) -> None:
    edit_weights(folder, action_head__2__bias=torch.tensor([1e6, 0, 0, 0]))
    with pytest.raises(CheckpointError, match="too large for torch.float16: action_head.2.bias"):
        repack(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_of_both_kinds_in_one_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    repack(folder, tmp_path / "out")
    shutil.copyfile(folder / WEIGHTS, tmp_path / "out" / WEIGHTS)
    with pytest.raises(CheckpointError, match=f"holds {WEIGHTS} and {INDEX}"):
        MVLAPolicy.load(tmp_path / "out")


def test_a_missing_shard_is_named(folder: Path, tmp_path: Path) -> None:
    repack(folder, tmp_path / "out", shard_bytes=200_000)
    shards = sorted((tmp_path / "out").glob("model-*.safetensors"))
    shards[0].unlink()
    with pytest.raises(CheckpointError, match=f"lacks .*{shards[0].name}"):
        MVLAPolicy.load(tmp_path / "out")
