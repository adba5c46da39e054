"""The benchmark: what it counts, which variants it runs, and that its rows say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.evaluation.latency.bench import Lengths, Variant, bench_row, measure, variants
from mvla_pruned_ros.evaluation.latency.costs import Floor, Pass, backbone_passes, measure_floor
from mvla_pruned_ros.evaluation.latency.results_file import add_rows, read_rows, set_entry, write_page
from mvla_pruned_ros.evaluation.latency.subject import Subject, resized
from mvla_pruned_ros.policy.mla.presets import MLA_PRESETS
from mvla_pruned_ros.policy.mvla.config import MVLAConfig
from mvla_pruned_ros.policy.mvla.presets import PRESETS

TINY = MVLAConfig(
    image_size=64, num_groups=10, group_size=6, width=64, depth=4, heads=4, mlp_width=96, chunk_size=5, head="ddim",
    evidence_layers=(1, 2, 3),
)  # fmt: skip


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject.random("tiny", TINY, "cpu", "auto")


@pytest.mark.parametrize("recompute", [True, False], ids=["recompute", "reuse"])
def test_operations_are_those_that_torch_counts(subject: Subject, recompute: bool) -> None:
    observation = subject.observations(1)[0]
    lengths = Lengths.of(subject, observation)
    policy: Any = subject.policy
    prepared = policy.prepare(observation)
    from mvla_pruned_ros.pruning.types import Selection

    batch = policy._batch(prepared, Selection.full(prepared.layout), observation.instruction)
    with torch.inference_mode():
        prefix = policy.model.tokenize(batch)
        # The fused kernel of the CPU is not counted by torch; the plain one is, product by product.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            policy.model.decode(prefix, evidence=True, reuse_prefix=not recompute)
        with FlopCounterMode(display=False) as heads:
            for _ in range(TINY.ddim_steps):
                policy.model.noisy_tokens(torch.zeros(1, 5, 4), policy.model.time_tokens(torch.tensor([3])))
                policy.model.action_head(torch.zeros(1, 5, TINY.width))
    passes = backbone_passes(TINY, lengths.prefix, lengths.queries, lengths.steps, recompute, 4, TINY.chunk_size)
    assert len(passes) == 8
    counted = counter.get_total_flops() - heads.get_total_flops()
    assert sum(p.flops for p in passes) == pytest.approx(counted, rel=0.001)


def test_bytes_are_weights_once_a_pass_and_keys_and_values(subject: Subject) -> None:
    weights = sum(p.nbytes for layer in subject.policy.model.backbone.layers for p in layer.parameters() if p.ndim == 2)
    first, second = backbone_passes(TINY, prefix=30, queries=6, steps=2, recompute=False, itemsize=4, rows=5)
    assert first.bytes == second.bytes == weights + 4 * 4 * 2 * 36 * 64


def test_floor_is_arithmetic_or_memory_whichever_takes_longer() -> None:
    floor = Floor(matmul=1e9, copy=1e8)
    assert floor.ms([Pass(flops=2e6, bytes=1e4), Pass(flops=1e3, bytes=5e5)]) == pytest.approx(2.0 + 5.0)
    measured = measure_floor(torch.device("cpu"), torch.float32, repeats=1)
    assert measured.matmul > 1e8 and measured.copy > 1e7


def test_variants_are_upstream_each_saving_alone_and_all_together() -> None:
    names = [v.name for v in variants(["none", "tri_stage", "fastv"], [0.35], denoises=True, gpu=False)]
    assert names == ["upstream", "pruned", "fastv", "cached", "pruned_cached", "fastv_cached"]
    assert [v.name for v in variants(["tri_stage"], [0.35], denoises=False, gpu=False)] == ["cached", "pruned_cached"]
    on_gpu = [v.name for v in variants(["tri_stage"], [0.35], denoises=True, gpu=True)]
    assert on_gpu == ["upstream", "pruned", "cached_eager", "pruned_cached_eager", "cached", "pruned_cached"]


def test_rows_tell_tokens_times_and_what_they_are_relative_to(subject: Subject) -> None:
    todo = variants(["tri_stage"], [0.5], denoises=True, gpu=False)
    observations = subject.observations(4)
    timings = measure(subject, todo, observations, rounds=4)
    lengths, floor = Lengths.of(subject, observations[0]), Floor(1e11, 1e10)
    rows = {v.name: bench_row(subject, v, t, timings[todo[0]], lengths, floor) for v, t in timings.items()}
    assert rows["upstream"]["tokens"] == 26 and rows["pruned_cached"]["tokens"] == 13
    assert rows["upstream"]["speed_up"] == 1 and rows["cached"]["speed_up"] > 1
    assert rows["upstream"]["sequence"] == 8 + 1 + 26 + 6
    assert rows["upstream"]["backbone_gflop"] > 3 * rows["cached"]["backbone_gflop"]
    for row in rows.values():
        assert row["rounds"] == 4 and row["policy_ms_p50"] > row["backbone_ms_p50"] > 0
        assert row["over_floor"] == pytest.approx(row["backbone_ms_p50"] / row["floor_ms"], rel=0.02)


@pytest.mark.parametrize("name", ["small", "medium", "base"])
def test_scene_is_ready_for_every_preset(name: str) -> None:
    subject = Subject.random(name, resized(PRESETS[name], depth=4), "cpu", "auto")
    layout = subject.policy.prepare(subject.observations(2)[1]).layout
    assert layout.num_visual == PRESETS[name].num_visual


def test_an_mla_policy_is_measured_the_same_way() -> None:
    subject = Subject.random("mla", resized(MLA_PRESETS["mla-small"], width=128, depth=3), "cpu", "auto")
    timings = measure(subject, [Variant("none", 1.0), Variant("tri_stage", 0.25)], subject.observations(3), rounds=1)
    assert [t.tokens for t in timings.values()] == [[512], [128]]


def test_resizing_keeps_heads_and_proportions() -> None:
    wide: Any = resized(PRESETS["base"], width=1024, depth=16)
    assert (wide.width, wide.depth, wide.heads, wide.mlp_width) == (1024, 16, 16, 2752)
    assert wide.evidence_layers == (4, 8, 12)
    fewer: Any = resized(PRESETS["medium"], image_size=160, groups=30)
    assert fewer.num_visual == 130
    with pytest.raises(ValueError, match="width 100 must be a multiple of the size of a head, 64"):
        resized(PRESETS["base"], width=100)


def row(**changes: Any) -> dict[str, Any]:
    fields = {
        "subject": "base", "width": 384, "depth": 12, "visual_tokens": 512, "variant": "cached", "keep_ratio": 1.0,
        "precision": "float32", "device": "cpu", "cpu": "x", "threads": 2, "policy_ms_p50": 10.0, "policy_ms_p99": 12.0,
        "backbone_ms_p50": 9.0, "floor_ms": 5.0, "speed_up": 1.0, "tokens": 512, "omp_wait_policy": "",
    }  # fmt: skip
    return fields | changes


def test_a_file_keeps_the_newest_of_each_row_and_what_is_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    add_rows(path, [row(), row(width=1024)], "first")
    set_entry(path, "sensor_to_command", {"outside_ms_p50": 5.0})
    add_rows(path, [row(policy_ms_p50=8.0)], "second")
    content = read_rows(path)
    assert [(r["width"], r["policy_ms_p50"], r["command"]) for r in content["rows"]] == [
        (1024, 10.0, "first"), (384, 8.0, "second"),
    ]  # fmt: skip
    assert content["sensor_to_command"] == {"outside_ms_p50": 5.0}
    path.write_text("[]")
    with pytest.raises(ValueError, match="latency.json is not a result file"):
        read_rows(path)


def test_page_shows_every_subject_and_needs_no_network(tmp_path: Path) -> None:
    page = tmp_path / "latency.html"
    write_page([row(), row(variant="pruned_cached", keep_ratio=0.33), row(width=1024)], page)
    text = page.read_text()
    assert "base: width 384, 12 layers, 512 visual tokens" in text and "base: width 1024" in text
    assert "pruned_cached 0.33" in text and 'src="http' not in text


def test_command_measures_writes_and_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "rows.json", tmp_path / "rows.html"
    assert main(["bench", "--preset", "small", "--depth", "4", "--image-size", "64", "--groups", "16", "--keep", "0.5",
                 "--rounds", "15", "--json", str(out)]) == 0  # fmt: skip
    rows = json.loads(out.read_text())["rows"]
    assert [(r["variant"], r["tokens"]) for r in rows] == [("cached", 32), ("pruned_cached", 16)]
    assert main(["bench", "--read", str(out), "--plot", str(page)]) == 0 and page.stat().st_size > 10**6
    capsys.readouterr()
    assert main(["bench", "--rounds", "3"]) == 2
    assert "--rounds: must be at least 15" in capsys.readouterr().err
