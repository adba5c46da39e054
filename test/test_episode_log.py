"""Episodes on disk: what was finished is found again, what was torn is not, and garbage is named."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from mvla_pruned_ros.evaluation.success.episode_log import EpisodeLog
from mvla_pruned_ros.evaluation.success.lateness import Latency
from mvla_pruned_ros.evaluation.success.rollout import Episode
from mvla_pruned_ros.evaluation.success.sweep import Setting
from mvla_pruned_ros.policy.fingerprint import FILES, policy_fingerprint
from mvla_pruned_ros.pruning.tri_stage.config import TriStageConfig

SETTING = Setting("push", "somewhere", "abc", "tri_stage", 0.5)


def episode(seed: int, success: bool = True) -> Episode:
    return Episode("push", seed, success, 60, False, 0.1 + 0.2, (14.123, 9.5), (0.125, 1.0))


def fill(path: Path, count: int = 3) -> None:
    with EpisodeLog(path) as log:
        for seed in range(count):
            log.add(SETTING.identity(), episode(seed))


def test_episodes_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.episodes.jsonl"
    fill(path)
    with EpisodeLog(path) as log:
        assert [log.find(SETTING.identity(), seed) for seed in range(4)] == [*map(episode, range(3)), None]


def test_every_episode_is_on_disk_at_once(tmp_path: Path) -> None:
    with EpisodeLog(tmp_path / "a.jsonl") as log:
        for seed in range(3):
            log.add(SETTING.identity(), episode(seed))
            assert len((tmp_path / "a.jsonl").read_text().splitlines()) == seed + 1


@pytest.mark.parametrize(
    "change",
    [
        {"task": "pick-place"},
        {"fingerprint": "abd"},
        {"method": "random"},
        {"keep": 0.25},
        {"pruning": TriStageConfig(window=2)},
        {"latency": Latency(steps=4)},
        {"latency": Latency(ms=50)},
        {"latency": Latency(factor=1)},
        {"replan": 8},
        {"swap": True},
        {"device": "cuda"},
    ],
)
def test_episodes_of_another_setting_are_not_taken(tmp_path: Path, change: dict) -> None:
    fill(tmp_path / "a.jsonl")
    log = EpisodeLog(tmp_path / "a.jsonl")
    assert log.find(dataclasses.replace(SETTING, **change).identity(), 0) is None


def test_where_a_policy_lies_and_settings_that_a_method_does_not_read_make_no_difference() -> None:
    assert dataclasses.replace(SETTING, policy="elsewhere").identity() == SETTING.identity()
    random = dataclasses.replace(SETTING, method="random")
    assert dataclasses.replace(random, pruning=TriStageConfig(window=2)).identity() == random.identity()


def test_last_line_that_was_torn_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    fill(path)
    whole = path.read_bytes()
    for cut in (1, 20, len(whole.splitlines()[-1])):
        path.write_bytes(whole[:-cut])
        with EpisodeLog(path) as log:
            assert log.find(SETTING.identity(), 1) is not None and log.find(SETTING.identity(), 2) is None
            log.add(SETTING.identity(), episode(2))
        assert path.read_bytes() == whole


@pytest.mark.parametrize("garbage", ["{not json", '{"task": "push"}', "[]", "", '{"policy_ms": 3}'])
def test_garbage_in_the_middle_is_an_error_that_names_file_and_line(tmp_path: Path, garbage: str) -> None:
    path = tmp_path / "a.jsonl"
    fill(path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], garbage, *lines[1:]]) + "\n")
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2 is not an episode"):
        EpisodeLog(path)


def test_fingerprint_changes_with_every_file_that_makes_a_policy(tmp_path: Path, tiny_policy_folder: Path) -> None:
    folder = shutil.copytree(tiny_policy_folder, tmp_path / "copy")
    before = policy_fingerprint(folder)
    assert before == policy_fingerprint(tiny_policy_folder) and len(before) == 16
    (folder / "README.md").write_text("not part of it")
    assert policy_fingerprint(folder) == before
    seen = {before}
    for name in FILES:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        seen.add(policy_fingerprint(folder))
        (folder / name).write_bytes(content)
    assert len(seen) == 1 + len(FILES)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="tokenizer.json is missing"):
        policy_fingerprint(folder)
