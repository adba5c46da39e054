"""Upstream MLA checkpoints and converted folders: what is sound is loaded, what is broken is refused with a reason."""

from __future__ import annotations

import json
import os
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mla_checkpoint import DATA, MASK, QUANTILES, SIZES, upstream_state, write_run
from safetensors.torch import load_file, save_file

from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.policy.engine.weight_files import INDEX, CheckpointError, write_shards
from mvla_pruned_ros.policy.fingerprint import policy_fingerprint
from mvla_pruned_ros.policy.mla.checkpoint import load_mla_parts
from mvla_pruned_ros.policy.mla.config import MLAConfig
from mvla_pruned_ros.policy.mla.convert import convert
from mvla_pruned_ros.policy.mla.policy import MLAPolicy
from mvla_pruned_ros.policy.mla.upstream import sources
from mvla_pruned_ros.policy.source import load_config, load_policy

State = dict[str, dict[str, Any]]
WEIGHTS = "model-00001-of-00001.safetensors"


def make(run: Path, out: Path, **options: Any) -> MLAConfig:
    return convert(run, out, overrides=run / "sizes.json", dtype=torch.float32, **options)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run folder of upstream's layout and what it is converted to."""
    folder = tmp_path_factory.mktemp("mla")
    run = write_run(folder / "run")
    make(run, folder / "out")
    return run, folder / "out"


@pytest.fixture
def run(sound: tuple[Path, Path], tmp_path: Path) -> Path:
    """A run folder that a test may break."""
    return Path(shutil.copytree(sound[0], tmp_path / "run"))


@pytest.fixture
def folder(sound: tuple[Path, Path], tmp_path: Path) -> Path:
    """A converted folder that a test may break."""
    return Path(shutil.copytree(sound[1], tmp_path / "policy"))


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- conversion ------------------------------------------------------------------------------------------------


def test_command_makes_a_folder_that_needs_nothing_else(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "policies" / "mla"
    assert main(["convert", str(run), str(out), "--sizes", str(run / "sizes.json")]) == 0
    shutil.rmtree(run)
    assert json.loads((out / "config.json").read_text())["architecture"] == "mla"
    policy = load_policy(out)
    assert isinstance(policy, MLAPolicy) and policy.action_dim == 7 and policy.chunk_size == 1
    assert load_mla_parts(out, torch.device("cpu"))[0].dtype == torch.bfloat16  # loaded it may be another, see below
    assert not policy.model.training and not any(p.requires_grad for p in policy.model.parameters())
    assert all(p.device.type == "cpu" for p in policy.model.parameters())
    assert {file.suffix for file in out.iterdir()} == {".json", ".safetensors"}
    assert len({file.stat().st_mode for file in out.iterdir()}) == 1, "whoever can read one file can read all"


@pytest.mark.parametrize("multiplies", [True, False])
def test_precision_is_that_on_disk_where_the_device_multiplies_in_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, multiplies: bool
) -> None:
    convert(run, folder := tmp_path / "mla", overrides=run / "sizes.json")
    monkeypatch.setattr("mvla_pruned_ros.policy.mla.policy.has_products", lambda *_: multiplies)
    assert MLAPolicy.load(folder).model.dtype == (torch.bfloat16 if multiplies else torch.float32)
    assert MLAPolicy.load(folder, precision="bf16").model.dtype == torch.bfloat16


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    text = capsys.readouterr().out
    assert all(part in text for part in ("dataset_statistics.json", "tokenizer.json", "--tokenizer", "examples:"))


def test_actions_per_call_and_the_order_of_tokens_are_kept(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", future_action_window_size=4)
    make(run, tmp_path / "out", blank_before_proprio=True)
    config = load_config(tmp_path / "out")
    assert isinstance(config, MLAConfig) and config.chunk_size == 5 and config.blank_before_proprio
    assert config.vocabulary == 128


def test_several_shards_are_put_together(sound: tuple[Path, Path], tmp_path: Path) -> None:
    make(sound[0], tmp_path / "out", shard_bytes=300_000)
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 5 and files[0].name.endswith(f"-of-{len(files):05d}.safetensors")
    device = torch.device("cpu")
    one, many = (load_mla_parts(folder, device)[0].state_dict() for folder in (sound[1], tmp_path / "out"))
    assert one.keys() == many.keys() and all(torch.equal(one[key], many[key]) for key in one)


def test_no_more_than_one_shard_is_in_memory(tmp_path: Path) -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    def tensor(name: str) -> torch.Tensor:
        nonlocal most
        value = torch.zeros(100)
        alive.add(value)
        most = max(most, len(alive))
        return value

    shapes = {f"w{i}": torch.Size([100]) for i in range(10)}
    write_shards(tmp_path, shapes, torch.float32, tensor, shard_bytes=3 * 400)
    assert most == 3 and len(list(tmp_path.glob("*.safetensors"))) == 4


def test_checkpoint_of_a_run_is_found_or_asked_for(run: Path, tmp_path: Path) -> None:
    file = run / "checkpoints" / "step-1.pt"
    shutil.copy(file, run / "checkpoints" / "step-2.pt")
    with pytest.raises(CheckpointError, match="holds step-1.pt, step-2.pt: give the file itself"):
        make(run, tmp_path / "out")
    shutil.copy(file, run / "checkpoints" / "latest-checkpoint.pt")
    make(run, tmp_path / "latest")
    convert(file, tmp_path / "one", overrides=run / "sizes.json")
    for old in (run / "checkpoints").iterdir():
        old.unlink() if old != file else old.rename(run / "weights.pt")
    (run / "checkpoints").rmdir()  # as in a download: beside config.json
    make(run, tmp_path / "flat")
    with pytest.raises(CheckpointError, match="no checkpoint at .*nowhere"):
        make(run / "nowhere", tmp_path / "out")


def test_every_tensor_of_upstream_is_either_used_or_expected_by_name() -> None:
    """Of the names recorded from upstream's modules, those that are not used are those that nothing reads."""
    names = {f"{module}.{name}" for module, names in upstream_state().items() for name in names}
    config = MLAConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in SIZES.items()})
    used = {key for source in sources(config).values() for key in source.keys}
    assert used <= names
    kinds = {"class_embedding", "split_embedding", "global_attention", "cls_token", "pos_embed", "norm",
             "num_batches_tracked", "lm_head", "contrastive"}  # fmt: skip
    assert all(any(kind in name for kind in kinds) for name in names - used), names - used
    assert DATA.stat().st_size < 1_000_000


def test_conversion_does_not_overwrite(sound: tuple[Path, Path]) -> None:
    with pytest.raises(CheckpointError, match="exists already"):
        make(*sound)


def no_key(state: State) -> None:
    del state["x_embedder"]["mlp.fc1.bias"], state["vision_tower_3d"]["proj.weight"]


def no_module(state: State) -> None:
    del state["final_layer"]


def unknown_key(state: State) -> None:
    state["projector_2d"]["mlp.4.weight"] = torch.zeros(2)


def wrong_shape(state: State) -> None:
    state["projector_3d"]["projector.0.weight"] = torch.zeros(64, 512)


def two_arms(state: State) -> None:
    state["x_embedder"]["mlp.fc1.weight"] = torch.zeros(64, 14)


def not_finite(state: State) -> None:
    state["llm_backbone"]["llm.model.layers.2.mlp.up_proj.weight"][3, 5] = float("nan")


def tactile(state: State) -> None:
    state["tactile_embedder"] = {"mlp.fc1.weight": torch.zeros(64, 12)}


def number(state: State) -> None:
    state["t_embedder"]["mlp.0.bias"] = 3.0


@pytest.mark.parametrize(
    "break_it, messages",
    [
        (no_key, ["missing x_embedder.mlp.fc1.bias", "missing vision_tower_3d.proj.weight"]),
        (no_module, ["missing final_layer.mlp.fc1.bias", "missing final_layer.norm_final.weight"]),
        (unknown_key, ["unknown projector_2d.mlp.4.weight"]),
        (wrong_shape, ["projector_3d.projector.0.weight has shape (64, 512), needs (64, 768)"]),
        (two_arms, ["x_embedder.mlp.fc1.weight has shape (64, 14), needs (64, 7)"]),
        (not_finite, ["llm_backbone.llm.model.layers.2.mlp.up_proj.weight has values that are not finite"]),
        (tactile, ["tactile readings"]),
        (number, ["no tensors: t_embedder.mlp.0.bias"]),
    ],
    ids=lambda x: x.__name__ if callable(x) else "",
)
def test_malformed_checkpoint_is_refused_and_every_tensor_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], break_it: Callable[[State], None], messages: list[str]
) -> None:
    state = upstream_state()
    break_it(state)
    run, out = write_run(tmp_path / "run", state), tmp_path / "out"
    assert main(["convert", str(run), str(out), "--sizes", str(run / "sizes.json")]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "step-1.pt" in error
    assert all(message in error for message in messages), error
    assert not out.exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_checkpoint_is_refused(run: Path, tmp_path: Path, share: float) -> None:
    file = run / "checkpoints" / "step-1.pt"
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match="step-1.pt is not a (whole )?checkpoint of torch.save"):
        make(run, tmp_path / "out")


class _Exploit:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_pickled_object_in_a_checkpoint_is_refused_and_not_executed(tmp_path: Path) -> None:
    trace = tmp_path / "was executed"
    run = write_run(tmp_path / "run", {"x_embedder": {"mlp.fc1.weight": _Exploit(trace)}})
    with pytest.raises(
        CheckpointError, match=r"step-1.pt holds more than tensors \(posix.mkdir\) and was not"
    ) as error:
        make(run, tmp_path / "out")
    assert not trace.exists() and "weights_only" not in str(error.value)


def test_checkpoint_of_an_old_format_is_refused_with_the_remedy(run: Path, tmp_path: Path) -> None:
    torch.save({"model": {}}, run / "checkpoints" / "step-1.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="not a checkpoint of torch.save in its present .zip. format: save it"):
        make(run, tmp_path / "out")


@pytest.mark.parametrize("content", [{"state_dict": {}}, [torch.zeros(2)], {"model": {"x": torch.zeros(2)}}])
def test_checkpoint_of_something_else_is_refused(run: Path, tmp_path: Path, content: Any) -> None:
    torch.save(content, run / "checkpoints" / "step-1.pt")
    with pytest.raises(CheckpointError, match="is no MLA checkpoint"):
        make(run, tmp_path / "out")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"action_dim": None}, "action_dim is None"),
        ({"action_dim": 14}, "dataset_statistics.json is for 7 proprio values, config.json says 14"),
        ({"action_dim": 6}, "action_dim 6 and proprio_dim 6 must both be 7"),
        ({"future_action_window_size": "0"}, "future_action_window_size is '0'"),
        ({"use_diff": False}, "use_diff is False, but only the diffusion head"),
        ({"use_tactile": True}, "use_tactile is True, but an observation"),
    ],
)
def test_run_that_cannot_be_supported_is_refused_with_the_reason(
    run: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    edit_json(run / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        make(run, tmp_path / "out")


def test_sizes_of_another_network_name_what_does_not_fit(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight has shape \(128, 64\), needs \(128, 128\)"):
        edit_json(run / "sizes.json", width=128)
        make(run, tmp_path / "out")
    with pytest.raises(CheckpointError, match="sizes.json: unknown entry 'widht': did you mean 'width'"):
        edit_json(run / "sizes.json", widht=64)
        make(run, tmp_path / "out")


@pytest.mark.parametrize("name", ["config.json", "dataset_statistics.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, b"", b"[1, 2]", b"\x80\x04\xff not text"])
def test_file_beside_the_checkpoint_is_refused_by_name(
    run: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        make(run, tmp_path / "out")


def test_statistics_of_several_data_sets_must_be_chosen_from(run: Path, tmp_path: Path) -> None:
    entry = {"action": QUANTILES | {"mask": MASK}, "proprio": QUANTILES}
    edit_json(run / "dataset_statistics.json", franka=entry)
    with pytest.raises(CheckpointError, match="statistics of franka, rlbench: choose one with --dataset"):
        make(run, tmp_path / "out")
    with pytest.raises(CheckpointError, match="no statistics of 'frank', but of franka, rlbench"):
        make(run, tmp_path / "out", dataset="frank")
    make(run, tmp_path / "out", dataset="franka")


def test_tokenizer_of_another_backbone_is_refused(run: Path, tmp_path: Path) -> None:
    text = (run / "tokenizer.json").read_text()
    (run / "tokenizer.json").write_text(text.replace("127", "126"))
    with pytest.raises(CheckpointError, match="tokenizer.json.*at 126, Llama's is at 127"):
        make(run, tmp_path / "out")
    (run / "tokenizer.json").write_text(text.replace('"Out": ', '"Out": 99'))
    with pytest.raises(CheckpointError, match="tokenizer.json.*the backbone embeds 128"):
        make(run, tmp_path / "out")


# --- converted folders -----------------------------------------------------------------------------------------


def edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    weights = load_file(folder / WEIGHTS)
    for name, value in changes.items():
        key = name.replace("__", ".")
        if value is None:
            del weights[key]
        else:
            weights[key] = value
    save_file(weights, folder / WEIGHTS)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"noise_head__scale": None, "final_norm__weight": None},
            "missing final_norm.weight; missing noise_head.scale",
        ),
        ({"surprise": torch.zeros(2)}, "unknown surprise"),
        ({"noise_head__scale": torch.zeros(3)}, r"noise_head.scale has shape \(3,\), needs \(64,\)"),
        ({"noise_head__scale": torch.full((64,), float("inf"))}, "noise_head.scale has values that are not finite"),
        ({"noise_head__scale": torch.full((64,), float("nan"))}, "noise_head.scale has values that are not finite"),
        ({"noise_head__scale": torch.zeros(64).half()}, "weights are F16, F32, must all be of one"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit_weights(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_policy(folder)


def test_two_armed_configuration_does_not_fit_the_weights(folder: Path) -> None:
    edit_json(folder / "config.json", action_dim=14, proprio_dim=14)
    with pytest.raises(CheckpointError, match="normalization.json is for 7 proprio values, config.json says 14"):
        load_policy(folder)
    entry = {"q01": [-1.0] * 14, "q99": [1.0] * 14}
    (folder / "normalization.json").write_text(json.dumps({"action": entry, "proprio": entry}))
    with pytest.raises(CheckpointError, match=r"action_embedder.0.weight has shape \(64, 7\), needs \(64, 14\)"):
        load_policy(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_shard_is_refused(folder: Path, share: float) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} is not a whole safetensors file"):
        load_policy(folder)


def test_pickle_in_the_place_of_a_shard_is_refused_and_not_executed(folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "was executed"
    torch.save(_Exploit(trace), folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_policy(folder)
    assert not trace.exists()


@pytest.mark.parametrize("name", [INDEX, WEIGHTS, "normalization.json", "tokenizer.json", "config.json"])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_policy(folder)


@pytest.mark.parametrize("name", [INDEX, "normalization.json", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"\x80\x04\xff not text", b"null"])
def test_file_of_another_kind_is_refused_by_name(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_policy(folder)


def test_index_must_not_lead_out_of_its_folder(folder: Path) -> None:
    edit_json(folder / INDEX, weight_map={"a": "../elsewhere.safetensors"})
    with pytest.raises(CheckpointError, match="outside its folder"):
        load_policy(folder)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"architecture": "pi0"}, "names architecture 'pi0': known are 'mla'"),
        ({"architecture": 3}, "names architecture 3"),
        ({"num_wheels": 4}, "num_wheels"),
        ({"width": "64"}, "width"),
        ({"width": 0}, "width must be at least 1"),
        ({"image_size": 670}, "image_size 670 must be a multiple"),
        ({"neighbours": 600}, "neighbours 600"),
        ({"workspace_lower": [0.0, 0.0]}, "workspace_lower"),
        ({"evidence_layers": [4]}, "evidence_layers"),
        ({"blank_token": 128}, "blank_token 128 is outside the vocabulary"),
        ({"ddim_steps": 60}, "60 of 100"),
        ({"depth": 5}, "missing backbone.layers.4.input_layernorm.weight"),
    ],
)
def test_ill_typed_or_impossible_configuration_is_refused_by_name(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    edit_json(folder / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        load_policy(folder)


def test_fingerprint_follows_the_weights(folder: Path) -> None:
    before = policy_fingerprint(folder)
    assert policy_fingerprint(folder) == before
    edit_weights(folder, noise_head__scale=torch.ones(64))
    assert policy_fingerprint(folder) != before


def test_mvla_folder_is_loaded_by_the_same_function(tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder)
    assert not isinstance(policy, MLAPolicy) and policy.action_dim == 4
    assert load_config(tiny_policy_folder) == policy.config
