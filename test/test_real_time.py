"""Simulated time goes on while a policy computes: when chunks arrive, when the robot holds, and playing it back."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mvla_pruned_ros.cli import options
from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.evaluation.success import rollout
from mvla_pruned_ros.evaluation.success.episode_log import EpisodeLog
from mvla_pruned_ros.evaluation.success.lateness import Latency, whole_steps
from mvla_pruned_ros.evaluation.success.rollout import DelayedControl, Episode, check_fit
from mvla_pruned_ros.evaluation.success.sweep import Setting
from mvla_pruned_ros.types import ActionChunk

STEP_S = 0.05


class Arm:
    """A robot that goes nowhere and keeps what it is told."""

    step_s, action_dim, replan_steps, views = STEP_S, 7, 4, ("image", "image_1")
    task = SimpleNamespace(name="libero_object/0")

    def __init__(self) -> None:
        self.steps = 0
        self.seen_at: list[int] = []
        self.sent: list[np.ndarray] = []

    @property
    def time_ns(self) -> int:
        return round(self.steps * STEP_S * 1e9)

    def observe(self, _: str | None) -> Any:
        self.seen_at.append(self.steps)
        return SimpleNamespace(stamp_ns=self.time_ns)

    def step(self, command: np.ndarray) -> None:
        self.sent.append(command)
        self.steps += 1


class Telling:
    """A runtime whose actions are the numbers of the steps that they are meant for, and close the gripper.

    Its calls take what ``clock`` says, in turn.
    """

    def __init__(self, took_ms: list[float], monkeypatch: pytest.MonkeyPatch, chunk: int = 8) -> None:
        self.policy = SimpleNamespace(chunk_size=chunk, action_dim=7, step_s=STEP_S, views=("image_1",))
        self._chunk, self._now = chunk, 0.0
        self._took = iter(took_ms)
        monkeypatch.setattr(rollout.time, "perf_counter", lambda: self._now)

    def reset(self) -> None:
        pass

    def infer(self, observation: Any) -> Any:
        self._now += next(self._took) / 1e3
        actions = np.zeros((self._chunk, 7), np.float32)
        actions[:, 0] = round(observation.stamp_ns / 1e9 / STEP_S) + np.arange(self._chunk)
        actions[:, 6] = 1.0
        chunk = ActionChunk(observation.stamp_ns, STEP_S, actions)
        return SimpleNamespace(
            chunk=chunk, selection=SimpleNamespace(spent_ratio=1.0), policy_ms=1.0, stage_ms={"select": 0.0}
        )


def drive(
    took_ms: list[float], monkeypatch: pytest.MonkeyPatch, steps: int = 24, **options: Any
) -> tuple[Arm, DelayedControl]:
    arm = Arm()
    control = DelayedControl(Telling(took_ms, monkeypatch), arm, **options)  # type: ignore[arg-type]
    for _ in range(steps):
        control.step()
    return arm, control


def test_chunk_arrives_after_what_its_call_took_and_no_observation_is_taken_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 40 ms: one step, at rest, so the chunk begins late. 290 ms: six, so the next observation waits for it, and so does
    # the robot after eight actions; the one that comes then was seen on the way, and joins at the action that is due.
    arm, control = drive([40.0, 290.0, 50.0, 50.001, 0.0, 0.0, 0.0], monkeypatch, 20, latency=Latency(factor=1))
    assert arm.seen_at == [0, 4, 10, 14, 18]
    assert control.latency_ms[:4] == [40.0, 290.0, 50.0, 50.001]
    sent = [round(float(command[0])) for command in arm.sent]
    assert sent == [0, *range(8), 0, *range(10, 20)]
    gripper = [float(command[6]) for command in arm.sent]
    assert gripper == [0.0] + [1.0] * 19, "kept while the robot holds"
    assert [whole_steps(ms, STEP_S) for ms in control.latency_ms[:4]] == [1, 6, 1, 2]
    assert not arm.sent[9][:6].any()


def test_chunk_for_a_robot_that_has_stood_still_since_begins_with_its_first_action(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The second call takes nine steps: its chunk was seen on the way, and is over before it is there.
    arm, _ = drive([40.0, 440.0, 100.0, 0.0, 0.0], monkeypatch, 20, latency=Latency(factor=1))
    assert arm.seen_at == [0, 4, 13, 17]
    sent = [round(float(command[0])) for command in arm.sent]
    assert sent == [0, *range(8), *[0] * 6, 13, 14, *range(17, 20)]


@pytest.mark.parametrize("took", [[30.0] * 40, [90.0, 260.0] * 20])
def test_what_was_measured_is_played_back(took: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    measured, first = drive(took, monkeypatch, latency=Latency(factor=2))
    again, second = drive([1.0] * 40, monkeypatch, latency=Latency(file="x"), played=first.latency_ms)
    np.testing.assert_array_equal(measured.sent, again.sent)
    assert measured.seen_at == again.seen_at and first.latency_ms == second.latency_ms
    assert first.latency_ms[0] == 2 * took[0]


def test_steps_and_milliseconds_are_one_mechanism(monkeypatch: pytest.MonkeyPatch) -> None:
    for steps, ms in ((0, 0.0), (1, 20.0), (3, 150.0), (6, 290.0)):
        arms = [drive([99.0] * 40, monkeypatch, latency=late)[0] for late in (Latency(steps=steps), Latency(ms=ms))]
        np.testing.assert_array_equal(arms[0].sent, arms[1].sent)
        assert arms[0].seen_at == arms[1].seen_at == list(range(0, 24, max(4, steps)))


def test_observations_come_as_often_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drive([0.0] * 40, monkeypatch, replan=6)[0].seen_at == [0, 6, 12, 18]
    with pytest.raises(ValueError, match=r"replan 9 must lie in \[1, 8\]"):
        drive([], monkeypatch, replan=9)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"action_dim": 4},
            "gives 4 values per action; the robot of task libero_object/0 takes 7: velocity x, y, z,",
        ),
        ({"action_space": "cartesian_delta"}, "actions are cartesian_delta .*takes cartesian_velocity"),
        ({"action_frame": "tool"}, "actions are cartesian_velocity .tool frame.*axes of its base"),
        ({"step_s": 0.0125}, "held for 12.5 ms; a step of the robot of task libero_object/0 takes 50 ms"),
        ({"views": ("image", "wrist")}, "takes the view wrist; the robot of task libero_object/0 has image, image_1"),
    ],
)
def test_policy_that_does_not_fit_is_refused_by_what_differs(changes: dict[str, Any], message: str) -> None:
    policy = SimpleNamespace(**{"action_dim": 7, "step_s": STEP_S, "views": ("image",), **changes})
    with pytest.raises(ValueError, match=message):
        check_fit(policy, Arm())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text, latency, word",
    [
        ("none", Latency(), None),
        ("0", Latency(), None),
        ("measured", Latency(factor=1), "measured"),
        ("1x", Latency(factor=1), "measured"),
        ("2.0x", Latency(factor=2), "2x"),
        ("150", Latency(ms=150), "150ms"),
        ("12.5ms", Latency(ms=12.5), "12.5ms"),
    ],
)
def test_words_of_a_latency(text: str, latency: Latency, word: str | None) -> None:
    assert Latency.of(text) == latency and latency.word == word
    assert word is None or Latency.of(word) == latency


@pytest.mark.parametrize("text", ["fast", "0x", "-1", "nan", "1e3", "60001", "1001x", "2 x", "replay:", "replay:no"])
def test_what_is_no_latency_is_refused_with_the_forms_or_bounds(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(text)):
        options.latency(text)


def fill(log: EpisodeLog, setting: Setting, ms: float, seed: int = 0) -> None:
    log.add(setting.identity(), Episode("push", seed, True, 9, False, 1.0, (1.0,), (0.1,), (ms, 2 * ms), 4, 0.1, 0.2))


def test_log_gives_the_calls_of_the_same_episode_whatever_its_latency_was(tmp_path: Path) -> None:
    setting = Setting("push", "somewhere", "abc", "random", 0.5)
    with EpisodeLog(tmp_path / "a.episodes.jsonl") as log:
        fill(log, setting, 1.0)
        fill(log, Setting("push", "somewhere", "abc", "random", 0.5, latency=Latency(factor=2)), 7.0)
        fill(log, Setting("push", "somewhere", "abc", "none", 1.0, latency=Latency(factor=2)), 9.0)
    log = EpisodeLog(Latency.of(f"replay:{tmp_path / 'a.json'}").log)
    assert log.latencies(setting.identity(), 0) == (7.0, 14.0)
    with pytest.raises(ValueError, match="no measured latency of push, random at keep ratio 0.5, seed 1"):
        log.latencies(setting.identity(), 1)
    with log:
        fill(log, Setting("push", "somewhere", "abc", "random", 0.5, latency=Latency(factor=1)), 3.0)
    with pytest.raises(ValueError, match="2x and measured of push"):
        EpisodeLog(tmp_path / "a.episodes.jsonl").latencies(setting.identity(), 0)


class Here:
    """In the place of the pool: jobs are done in this process, which has started."""

    def __init__(self, _: int) -> None:
        pass

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def imap_unordered(self, function: Callable[[Any], Any], jobs: list[Any]) -> Iterator[Any]:
        return map(function, jobs)


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Rows of a file after ``mvla evaluate`` on one task and seed."""
    pytest.importorskip("metaworld", reason="the simulator extra is not installed: pip install .[sim]")
    monkeypatch.setattr("mvla_pruned_ros.evaluation.success.sweep.WorkerPool", Here)

    def run(name: str, *words: str) -> list[dict[str, Any]]:
        task = ["--tasks", "button-press-topdown", "--episodes", "1"]
        assert main(["evaluate", *task, *words, "--json", str(tmp_path / name)]) == 0
        return json.loads((tmp_path / name).read_text())["rows"]

    return run


def timeless(path: Path) -> dict[str, Any]:
    """The one episode of a log, less what it took."""
    entry = json.loads(path.read_text())
    return {name: value for name, value in entry.items() if name not in ("policy_ms", "select_ms", "latency")}


def test_measured_run_is_the_same_when_it_is_played_back(
    evaluate: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    pruned = ["--method", "tri_stage", "--keep", "0.35"]
    (measured,) = evaluate("a.json", *pruned, "--latency", "1.5x")
    (played,) = evaluate("b.json", *pruned, "--latency", f"replay:{tmp_path / 'a.json'}")
    assert measured["latency"] == "1.5x" and measured["delay"] == 0 and measured["replan"] == 4
    assert played["latency"] == f"replay:{tmp_path / 'a.json'}"
    assert timeless(tmp_path / "a.episodes.jsonl") == timeless(tmp_path / "b.episodes.jsonl")
    episode = json.loads((tmp_path / "a.episodes.jsonl").read_text())
    assert all(late >= 1.5 * took for late, took in zip(episode["latency_ms"], episode["policy_ms"]))
    for name in ("completion_s", "path_m", "jerk_m_s3"):
        assert measured[name] == played[name] > 0
    assert measured["completion_s"] == pytest.approx(measured["steps_median"] * 0.0125)


def test_fixed_latency_gives_the_same_result_every_time_and_rows_of_its_own(
    evaluate: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    late = ["--method", "blind", "none", "--latency", "60ms"]
    first = evaluate("a.json", *late)
    again = evaluate("b.json", *late)
    for row in (*first, *again):
        del row["policy_ms_p50"], row["selection_ms_p50"], row["command"]
    assert first == again
    blind, full = first
    assert (blind["method"], blind["keep_asked"], blind["keep_measured"]) == ("blind", 0.0, 0.0)
    assert full["successes"] == 1 and full["latency"] == "60ms"
    assert blind["minus_none"][0] == blind["successes"] - 1
    at_once = evaluate("a.json", "--method", "none", "--replan", "5")
    assert len(at_once) == 3 and "latency" not in at_once[2] and at_once[2]["replan"] == 5
