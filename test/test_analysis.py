"""Salience analysis: measures with known answers, a page that needs no network, recordings from bag and simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bags import write_bag

from mvla_pruned_ros.analysis.over_time import cosine, segments, similarity, total_variation
from mvla_pruned_ros.analysis.page import PICTURES, draw_page, shown
from mvla_pruned_ros.analysis.pictures import draw_salience
from mvla_pruned_ros.analysis.recording import Call, RecordingRuntime
from mvla_pruned_ros.analysis.report import SHARES, analyse, plain, sets_of
from mvla_pruned_ros.analysis.salience import in_multiples_of_mean, share_of_sums, sums_by_set, unique_shares
from mvla_pruned_ros.analysis.sources import bag_calls
from mvla_pruned_ros.bags.observations import BagFrames
from mvla_pruned_ros.bags.reader import Bag
from mvla_pruned_ros.bags.setup import BagSetup
from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.policy.mvla.policy import MVLAPolicy
from mvla_pruned_ros.pruning.tri_stage.config import TriStageConfig
from mvla_pruned_ros.pruning.types import SemanticSet, TokenLayout
from mvla_pruned_ros.types import Observation

BACKGROUND, ROBOT, OBJECT = SemanticSet
CONFIG = TriStageConfig()


def layout_of(patches: int = 2, points: int = 2, point_patch: list[int] | None = None) -> TokenLayout:
    """Patches in a row 1 m apart, points likewise, behind them; all far from the end effector."""
    return TokenLayout(
        views=("image",),
        grids=((1, patches),),
        image_positions=np.stack([np.arange(patches), np.zeros(patches), np.zeros(patches)], 1).astype(np.float32),
        point_positions=np.stack([np.arange(points), np.ones(points), np.zeros(points)], 1).astype(np.float32),
        point_patches=np.array([[-1] * points if point_patch is None else point_patch]),
        camera_poses=np.eye(4)[None],
        end_effector=np.array([0, 0, 9], np.float32),
        spacing=0.05,
    )


# Measures of one call


def test_share_of_sums_counts_tokens_where_the_share_of_means_does_not() -> None:
    assert share_of_sums(np.array([1.0, 1.0, 1.0, 1.0]), 3) == 0.75
    assert share_of_sums(np.array([2.0, 6.0]), 1) == 0.25
    assert np.isnan(share_of_sums(np.zeros(2), 1))


def test_multiples_of_the_mean() -> None:
    np.testing.assert_allclose(in_multiples_of_mean(np.array([1.0, 2.0, 3.0])), [0.5, 1.0, 1.5])
    np.testing.assert_array_equal(in_multiples_of_mean(np.zeros(2)), [0, 0])


def test_sums_by_set_keep_sets_and_modalities_apart() -> None:
    sets = np.array([BACKGROUND, ROBOT, ROBOT, OBJECT, ROBOT], np.int8)
    sums, counts = sums_by_set(np.array([1.0, 2.0, 4.0, 8.0, 16.0]), sets, num_image=3)
    np.testing.assert_array_equal(sums, [[1, 0], [6, 16], [0, 8]])
    np.testing.assert_array_equal(counts, [[1, 0], [2, 1], [0, 1]])


def test_point_attention_splits_into_what_patches_tell_and_what_they_do_not() -> None:
    # Patch 0 is attended above the mean of patches, patch 1 is not; the third point is off the image.
    layout = layout_of(patches=2, points=3, point_patch=[0, 1, -1])
    attention, tokens = unique_shares(np.array([0.3, 0.1, 0.3, 0.2, 0.1]), layout)
    assert attention == pytest.approx(0.5) and tokens == pytest.approx(2 / 3)
    assert all(np.isnan(unique_shares(np.array([0.5, 0.5]), layout_of(2, 0))))


# Measures over time


def test_cosine_and_total_variation_have_their_extremes() -> None:
    a, b = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert (cosine(a, 3 * a), cosine(a, b)) == (1, 0) and np.isnan(cosine(a, 0 * a))
    assert (total_variation(a, a), total_variation(a, b)) == (0, 1)


def test_segment_begins_where_attention_moves_and_not_before() -> None:
    left, right = np.array([0.7, 0.1, 0.1, 0.1]), np.array([0.1, 0.1, 0.1, 0.7])
    error, begins = segments([layout_of()] * 6, [left, left, left, right, right, right], CONFIG)
    assert begins.tolist() == [True, False, False, True, False, False]
    assert np.isnan(error[0])
    # Points inherit from all near ones, so those differ a little from what was seen; the jump moves 0.6 of it.
    np.testing.assert_allclose(error[1:], [0, 0, 0.6, 0, 0], atol=0.02)


def test_similarity_compares_calls_that_are_so_far_apart() -> None:
    left, right = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0, 0.0])
    attentions, layouts = [left, right, left, right], [layout_of()] * 4
    for lag, expected in ((1, [0, 0, 0]), (2, [1, 1])):
        cosines, variations = similarity(layouts, attentions, lag, CONFIG)
        np.testing.assert_allclose(cosines, expected, atol=1e-6)
        np.testing.assert_allclose(variations, 1 - np.array(expected), atol=1e-6)
    assert len(similarity(layouts, attentions, 4, CONFIG)[0]) == 0


def test_salience_of_a_point_is_found_again_where_it_went_in_the_list() -> None:
    """Point groups come in another order in each frame."""
    old, new = layout_of(2, 2), layout_of(2, 2)
    new.point_positions[:] = old.point_positions[::-1]
    attentions = [np.array([0.0, 0.0, 0.9, 0.1]), np.array([0.0, 0.0, 0.1, 0.9])]
    cosines, _ = similarity([old, new], attentions, 1, CONFIG)
    assert cosines[0] > 0.99


def test_json_gets_plain_numbers_and_none_for_what_is_not_defined() -> None:
    value = {"a": np.float32(0.5), "b": [float("nan"), np.bool_(True)], "c": (np.int64(3), "x")}
    assert json.dumps(plain(value), allow_nan=False) == '{"a": 0.5, "b": [null, true], "c": [3, "x"]}'


# Recordings


@pytest.fixture(scope="module")
def policy(tiny_policy_folder: Path) -> MVLAPolicy:
    return MVLAPolicy.load(tiny_policy_folder)


@pytest.fixture
def calls(policy: MVLAPolicy, observation: Callable[..., Observation]) -> list[Call]:
    """Two episodes of three calls, 50 ms apart."""
    runtime = RecordingRuntime(policy)
    for i in range(6):
        if i % 3 == 0:
            runtime.reset()
        runtime.infer(observation(seed=i, stamp_ns=10**9 + i * 50_000_000))
    return runtime.take()


def test_recorded_call_holds_every_token_and_the_picture(calls: list[Call], policy: MVLAPolicy) -> None:
    assert [call.episode for call in calls] == [0, 0, 0, 1, 1, 1]
    for call in calls:
        assert call.layout.num_visual == policy.config.num_visual == len(call.evidence.norm)
        (picture,), (camera,) = call.pictures, call.cameras
        assert picture.shape == (288, 288, 3) and (camera.width, camera.height) == (288, 288)


def test_recording_leaves_the_policy_as_it_is(policy: MVLAPolicy, observation: Callable[..., Observation]) -> None:
    from mvla_pruned_ros.policy.runtime import PolicyRuntime
    from mvla_pruned_ros.pruning.methods import make_pruner

    recorded = RecordingRuntime(policy).infer(observation())
    plainly = PolicyRuntime(policy, make_pruner("none", 1.0)).infer(observation())
    np.testing.assert_array_equal(recorded.chunk.actions, plainly.chunk.actions)


def test_numbers_of_a_recording_hang_together(calls: list[Call]) -> None:
    numbers = analyse(calls, CONFIG)
    json.dumps(numbers, allow_nan=False)
    assert (numbers["calls"], numbers["episodes"], numbers["tokens"]) == (6, 2, {"image": 144, "points": 64})
    rows = numbers["rows"]
    np.testing.assert_allclose([row["time_s"] for row in rows], np.arange(6) * 0.05)
    assert [row["cosine_to_previous"] is None for row in rows] == [True, False, False] * 2
    for name in SHARES:
        assert numbers["image_share"][name]["mean"] == pytest.approx(np.mean([row[name] for row in rows]))
        assert all(0 < row[name] < 1 for row in rows)
    assert sum(sum(one["tokens"].values()) for one in numbers["sets"].values()) == pytest.approx(208)
    first = {(s["episode"], s["first_call"]) for s in numbers["segments"]}
    assert {(0, 0), (1, 3)} <= first and sum(s["calls"] for s in numbers["segments"]) == 6
    assert [(one["calls_apart"], one["pairs"]) for one in numbers["similarity"]["lags"]] == [(1, 4), (2, 2)]


def test_recording_without_a_call_is_refused() -> None:
    with pytest.raises(ValueError, match="no policy call"):
        analyse([], CONFIG)


# The page


class References(HTMLParser):
    """Collects what a page would fetch, and how many plots and pictures it has."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.policy = ""
        self.plots = self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        for name in ("src", "href", "srcset", "data", "poster"):
            if name in values and not values[name].startswith("data:"):
                self.fetched.append(values[name])
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]
        self.plots += "plotly-graph-div" in values.get("class", "")
        self.pictures += tag == "img"


def references(page: str) -> References:
    found = References()
    found.feed(page)
    return found


def test_page_fetches_nothing_and_shows_plots_pictures_and_the_paper(calls: list[Call]) -> None:
    numbers = {"recording": "<a bag>", "policy": "tiny", **analyse(calls, CONFIG)}
    page = draw_page(numbers, calls, [sets_of(call, CONFIG) for call in calls])
    found = references(page)
    assert found.fetched == [] and found.policy.startswith("default-src 'none'")
    assert (found.plots, found.pictures) == (5, 6)
    assert "&lt;a bag&gt;" in page and "<a bag>" not in page
    for figure in ("90.16", "9.84", "81.47", "18.53", "90.38", "9.62"):
        assert f"<td>{figure}</td>" in page
    assert "plotly.js v" in page[:20_000], "the library lies in the page"


def test_pictures_are_of_segments_first_and_evenly_spaced() -> None:
    def of(begins: list[int], count: int) -> list[int]:
        return shown({"calls": count, "segments": [{"first_call": i} for i in begins]})

    assert of([0], 11) == [0, 2, 4, 6, 8, 10]
    assert of([0, 3], 2) == [0, 1, 3]
    assert of(list(range(20)), 100) == list(range(PICTURES))


def test_salience_is_painted_where_it_is(calls: list[Call]) -> None:
    call = calls[0]
    call.evidence.attention[:] = 0
    call.evidence.attention[5] = 1.0  # sixth patch of the first row, 24 pixels wide
    picture = draw_salience(call, np.full(208, BACKGROUND))
    assert picture.shape == (288, 864, 3) and picture.dtype == np.uint8
    brightness = picture[:, :288].astype(float).sum(-1).reshape(12, 24, 12, 24).mean((1, 3))
    assert np.unravel_index(brightness.argmax(), (12, 12)) == (0, 5)


# Bags


@pytest.fixture
def frames(observation: Callable[..., Observation]) -> list[Observation | str]:
    push, close = "push the puck to the goal", "close the faucet"
    views = [observation(seed=i, stamp_ns=10**9 + i * 50_000_000) for i in range(5)]
    return [views[0], push, views[1], views[2], close, views[3], views[4]]


def test_frame_with_a_lost_message_is_left_out(tmp_path: Path, frames: list[Any], policy: MVLAPolicy) -> None:
    write_bag(tmp_path / "bag", frames, lost=(3, "depth"))
    setup = BagSetup(base_from_camera=frames[0].views[0].camera.base_from_camera, sync_tolerance_ms=10.0)
    with Bag(tmp_path / "bag") as bag:
        calls = list(bag_calls(BagFrames(bag, setup), policy))
    assert [call.stamp_ns for call in calls] == [10**9 + i * 50_000_000 for i in (1, 3, 4)]
    assert [call.episode for call in calls] == [0, 1, 1]


def test_command_reads_a_bag_without_ros(tmp_path: Path, frames: list[Any], tiny_policy_folder: Path) -> None:
    pytest.importorskip("metaworld", reason="the simulator extra is not installed: pip install .[sim]")
    write_bag(tmp_path / "bag", frames)
    arguments = ["analyze", str(tmp_path / "bag"), "--policy", str(tiny_policy_folder), "--out", str(tmp_path / "out")]
    code = (
        f"import sys\nfrom mvla_pruned_ros.cli.main import main\ncode = main({arguments!r})\n"
        "print('code', code, [m for m in sys.modules if m == 'rclpy' or m.endswith('_msgs')])"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == "code 0 []", done.stderr
    numbers = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert numbers["calls"] == 4 and numbers["instructions"] == ["push the puck to the goal", "close the faucet"]


# The command


def test_command_analyses_a_simulated_episode(
    tmp_path: Path, tiny_policy_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("metaworld", reason="the simulator extra is not installed: pip install .[sim]")
    arguments = ["--task", "push", "--seed", "3", "--calls", "4", "--policy", str(tiny_policy_folder)]
    assert main(["analyze", *arguments, "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "push, seed 3: 4 calls" in text and "90.16" in text and "analysis.html" in text
    numbers = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert numbers["calls"] == 4 and [row["time_s"] for row in numbers["rows"]] == [0.0, 0.05, 0.1, 0.15]
    assert references((tmp_path / "out" / "analysis.html").read_text()).fetched == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give either a bag or --task, got neither"),
        (["somewhere", "--task", "push"], "got both somewhere and --task push"),
        (["--task", "juggle"], "unknown task 'juggle'"),
        (["somewhere", "--seed", "3"], "--seed 3 is for a simulated episode"),
        (["--task", "push", "--seed", "-1"], "--seed: must be at least 0, got -1"),
        (["--task", "push", "--calls", "0"], "--calls: must be at least 1, got 0"),
        (["--task", "push", "--policy", "/nowhere"], "no policy '/nowhere'"),
        (["--task", "push", "--out", __file__], "is a file"),
        (["/nowhere"], "bag /nowhere does not exist"),
    ],
)
def test_wrong_arguments_end_in_one_clear_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", *arguments]) == 2
    assert message in capsys.readouterr().err
