"""The `mvla` command, and its demo over real DDS with a policy of random weights."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mvla_pruned_ros.cli.main import COMMANDS, main

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("command", ["demo", "record", "replay"])
def test_help_gives_examples_and_loads_nothing_heavy(command: str) -> None:
    code = f"""
import sys
from mvla_pruned_ros.cli.main import main
try:
    main([{command!r}, "--help"])
except SystemExit:
    print([name for name in ("torch", "rclpy", "open3d", "numpy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert f"  mvla {command} " in done.stdout and "examples:" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(f"mvla {command}" in text for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--tasks", "juggle"], "unknown task 'juggle': choose from button-press-topdown"),
        (["--keep", "1.5"], "keep ratio 1.5 is outside (0, 1]"),
        (["--method", "magic"], "unknown method 'magic': choose from none, random, uniform"),
        (["--episodes", "0"], "argument --episodes: must be at least 1"),
        (["--policy", "/nowhere"], "no policy '/nowhere'"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    assert main(["demo", "--out", str(tmp_path / "demo"), *arguments]) == 2
    error = capsys.readouterr().err
    assert reason in error and error.startswith("mvla demo: error: ") and error.count("\n") == 1
    assert not (tmp_path / "demo").exists()


def demo(out: Path, policy: Path, *arguments: str) -> int:
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    pytest.importorskip("metaworld", reason="the simulator (Meta-World) is not installed")
    fixed = ["--out", str(out), "--policy", str(policy), "--domain-id", os.environ["ROS_DOMAIN_ID"]]
    return main(["demo", *fixed, *arguments])


def test_short_demo_reports_in_full_and_loses_no_frame(
    tiny_policy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--episodes", "1", "--tasks", "faucet-close", "--max-steps", "80", "--keep", "0.4", "--seed", "11"]
    assert demo(tmp_path, tiny_policy_folder, *arguments) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    (episode,) = report["episodes"]
    assert episode["task"] == "faucet-close" and episode["seed"] == 11
    assert episode["success"] is False and episode["steps"] == 80
    assert report["frames_sent"] == 20
    assert report["frames_received"] >= 0.99 * report["frames_sent"]
    # The first call of an episode keeps everything, all others 40 %.
    assert report["keep_ratio"] == pytest.approx(0.4, abs=0.1) and report["keep_ratio_asked"] == 0.4
    assert report["policy_ms_p50"] > 0 and report["inferences"] > 10
    assert 0 < report["real_time_factor"] < 0.6
    from PIL import Image

    with Image.open(tmp_path / "demo.gif") as film:
        assert film.n_frames > 5  # type: ignore[attr-defined]
    text = capsys.readouterr().out
    assert "0 / 1" in text and "frames lost" in text


def test_comparison_plays_each_scene_in_both_ways_with_both_policies(
    tiny_policy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    from mvla_pruned_ros.rigs.demo import session

    monkeypatch.setattr(session, "tasks_of", lambda policy: ("plate-slide",))
    monkeypatch.setenv("COLUMNS", "120")  # the folder of the policy has a long name
    arguments = ["--compare", "--episodes", "1", "--tasks", "push", "--max-steps", "40", "--keep", "0.4", "--no-gif",
                 "--also", "medium", "--require-success"]  # fmt: skip
    if with_view := importlib.util.find_spec("rerun_bindings") is not None:
        arguments += ["--view", str(tmp_path / "run.rrd")]
    assert demo(tmp_path, tiny_policy_folder, *arguments) == 1, "no episode is solved in 40 steps"
    report = json.loads((tmp_path / "report.json").read_text())
    unpruned, pruned = report["episodes"]
    assert (unpruned["method"], pruned["method"]) == ("none", "tri_stage") and unpruned["seed"] == pruned["seed"] == 0
    assert unpruned["keep_ratio"] == report["unpruned"]["keep_ratio"] == 1.0
    assert pruned["keep_ratio"] == report["keep_ratio"] < 0.7
    assert report["calls_per_second"] > 0 and report["unpruned"]["calls_per_second"] > 0
    assert report["image_to_actions_ms_p50"] > report["policy_ms_p50"] > 0
    (also,) = report["also"]
    assert also["policy"] == "medium" and [e["task"] for e in also["episodes"]] == ["plate-slide"] * 2
    words = capsys.readouterr().out
    rows = {line.split("│")[1].strip(): line.split("│")[2:6] for line in words.splitlines() if line.count("│") == 6}
    assert [cell.strip() for cell in rows["steps, mean"]] == ["40"] * 4
    assert rows["visual tokens"][0].strip() == "208 / 208" and rows["visual tokens"][2].strip() == "260 / 260"
    assert report["verdict"] in " ".join(words.split())
    page = (tmp_path / "report.html").read_text()
    assert report["verdict"] in page and page.count("plotly-graph-div") == 2
    # A file for each policy node.
    assert [path.name for path in sorted(tmp_path.glob("*.rrd"))] == (["run.rrd", "run_2.rrd"] if with_view else [])


def test_demo_refuses_what_does_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    pytest.importorskip("metaworld", reason="the simulator (Meta-World) is not installed")
    for arguments, reason in (
        (["--compare", "--method", "none"], "--method none prunes nothing"),
        (["--tasks", "push", "libero_object/0", "--policy", "small"], "are for two robots, and a policy drives one"),
    ):
        assert main(["demo", "--out", str(tmp_path / "demo"), *arguments]) == 2
        assert reason in capsys.readouterr().err


def test_a_node_that_fails_ends_the_demo_with_what_it_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "empty"
    policy.mkdir()
    assert demo(tmp_path / "out", policy) == 1
    error = capsys.readouterr().err
    assert "policy node ended with exit code" in error and "config.json" in error


@pytest.mark.parametrize("command", ["record --out OUT/bag", "replay --live OUT/sensors --out OUT"])
def test_a_node_that_cannot_start_gives_its_own_line(
    command: str, tiny_policy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    from bags import write_bag
    from conftest import make_observation

    from mvla_pruned_ros.rigs.demo import live_replay

    monkeypatch.setattr(live_replay, "REQUIRED", live_replay.REQUIRED[1:])  # without the clock
    write_bag(tmp_path / "sensors", ["push the puck to the goal", make_observation()])
    policy = shutil.copytree(tiny_policy_folder, tmp_path / "policy")
    (policy / "config.json").write_text('{"step_s": "fast"}')
    words = [*command.replace("OUT", str(tmp_path)).split(), "--policy", str(policy), "--device", "cpu"]
    assert main([*words, "--domain-id", os.environ["ROS_DOMAIN_ID"]]) == 1
    error = capsys.readouterr().err
    assert "cannot configure" in error and "config.json: step_s is 'fast', must be a number" in error
    assert "Traceback" not in error and error.count("\n") <= 3
