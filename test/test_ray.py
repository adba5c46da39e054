"""Sweeps on Ray: the same rows as on this machine's processes, and a clear error without it."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

os.environ.setdefault("MUJOCO_GL", "osmesa")
pytest.importorskip("metaworld", reason="the simulator extra is not installed: pip install .[sim]")

from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.evaluation.success.rows import row
from mvla_pruned_ros.evaluation.success.sweep import Setting, run_sweep
from mvla_pruned_ros.policy.fingerprint import policy_fingerprint
from mvla_pruned_ros.pruning.tri_stage.config import TriStageConfig

SMALL = Path(__file__).parents[1] / "mvla_pruned_ros" / "models" / "small"
SETTINGS = [
    Setting("button-press-topdown", str(SMALL), policy_fingerprint(SMALL), method, keep)
    for method, keep in (("none", 1.0), ("random", 0.25), ("tri_stage", 0.25))
]


def rows(ray: str | None) -> list[dict]:
    results = run_sweep(SETTINGS, range(2), 1, lambda *_: None, ray=ray)
    made = [row(setting, episodes, TriStageConfig()).to_json() for setting, episodes in results.items()]
    return [{k: v for k, v in r.items() if not k.endswith("_ms_p50")} for r in made]


def test_rows_on_ray_are_those_of_this_machines_processes() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install .[ray]")
    on_ray = rows("local")
    assert [len(r["success_by_seed"]) for r in on_ray] == [2, 2, 2]
    assert on_ray == rows(None)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:{free}", "no Ray cluster at '127.0.0.1:{free}'"),
        ("ray://localhost:{free}", "no Ray cluster at 'ray://localhost:{free}'"),
        ("nobody.invalid:6379", "no Ray cluster at 'nobody.invalid:6379'"),
        ("auto", "no Ray cluster at 'auto' (none was started here)"),
        ("nonsense", "'nonsense' is no address of a Ray cluster: give host:port, auto or local"),
        ("host:99999999", "is no address"),
        ("", "argument --ray: is empty"),
    ],
)
def test_without_a_cluster_it_ends_soon_and_says_so(
    address: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ray, pools = ModuleType("ray"), ModuleType("ray.util.multiprocessing")

    def no_cluster(ray_address: str, **_: object) -> None:
        assert ray_address == "auto", "Ray was asked for a cluster that is not there, which takes minutes"
        raise ConnectionError("none was started here")

    monkeypatch.setattr(ray, "shutdown", lambda: None, raising=False)
    monkeypatch.setattr(pools, "Pool", no_cluster, raising=False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.util.multiprocessing", pools)
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        free, began = bound.getsockname()[1], time.monotonic()
        assert main(["evaluate", "--tasks", "push", "--episodes", "1", "--ray", address.format(free=free)]) == 2
    assert time.monotonic() - began < 30
    error = capsys.readouterr().err
    assert says.format(free=free) in error and error.count("\n") == 1


def test_without_ray_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not there
    assert main(["evaluate", "--tasks", "push", "--episodes", "1", "--ray", "local"]) == 2
    assert "pip install mvla_pruned_ros[ray]" in capsys.readouterr().err
