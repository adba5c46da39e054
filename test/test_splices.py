"""What is measured where chunks meet: figures, plot, and the command that makes both."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.evaluation.splices.measure import IntraChunkStep, SplicedEpisode, summary
from mvla_pruned_ros.evaluation.splices.plot import splice_svg


def episode(mode: str = "switch", jump: float = 0.3) -> SplicedEpisode:
    """Six commands that step by 0.1 along x, with one splice in the middle that jumps along x and turns the gripper."""
    sent = np.zeros((6, 4), np.float32)
    sent[:, 0] = [0.0, 0.1, 0.2, 0.2 + jump, 0.3 + jump, 0.4 + jump]
    sent[3:, 3] = 1.0
    own = IntraChunkStep(np.array([0.1, 0.5, 0.0]), 0.5)
    return SplicedEpisode("push", 7, 4, mode, True, 0.0125, sent, np.array([3]), own)


def test_jump_is_told_from_the_policys_own_steps_along_each_axis() -> None:
    one = episode()
    assert one.largest_jump.axes == pytest.approx([0.3, 0, 0]) and one.largest_jump.length == pytest.approx(0.3)
    assert one.within_own_steps, "along x the policy steps by 0.1 only, but it steps by 0.5"
    assert not episode(jump=0.6).within_own_steps


def test_summary_groups_episodes_and_names_the_worst_axis() -> None:
    rows = [episode(jump=0.6).row(), episode(jump=0.1).row(), episode("blend", 0.05).row()]
    switch, blend = summary(rows)
    assert (switch["mode"], switch["episodes"], switch["within_own_steps"], switch["successes"]) == ("switch", 2, 1, 2)
    assert switch["largest_jump"] == pytest.approx(0.6) and switch["worst_axis"] == pytest.approx(6.0)
    assert blend["within_own_steps"] == 1 and blend["worst_axis"] == pytest.approx(0.5)
    json.dumps(rows)


def test_plot_shows_each_velocity_each_splice_and_both_figures() -> None:
    text = splice_svg([episode(), episode("blend", 0.05)])
    tree = ElementTree.fromstring(text)
    shapes = [element.tag.split("}")[1] for element in tree.iter()]
    assert shapes.count("polyline") == 2 * 3
    assert text.count('stroke="#ccc"') == 2, "one splice in each panel"
    assert "0.300 / 0.500" in text and "blend: push, seed 7" in text


def test_command_compares_switching_with_blending_on_the_same_episode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("metaworld", reason="the simulated robot is not installed")
    arguments = ["--tasks", "button-press-topdown", "--episodes", "1", "--seed", "3", "--delay", "2", "--device", "cpu"]
    assert main(["splices", *arguments, "--out", str(tmp_path)]) == 0
    numbers = json.loads((tmp_path / "splices.json").read_text())
    switch, blend = numbers["episodes"]
    assert (switch["mode"], blend["mode"]) == ("switch", "blend") and switch["seed"] == blend["seed"] == 3
    assert switch["splices"] > 5 and blend["splices"] > 5
    assert blend["within_own_steps"] and blend["success"]
    ElementTree.parse(tmp_path / "splices.svg")
    printed = capsys.readouterr().out
    assert "switch" in printed and "blend" in printed


def test_unknown_task_is_refused_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["splices", "--tasks", "juggle"]) == 2
    assert "juggle" in capsys.readouterr().err
