"""Record and replay: what went over the wire comes back as the same bytes, and the policy node acts on it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
pytest.importorskip("metaworld", reason="the simulator (Meta-World) is not installed")

from rclpy.serialization import deserialize_message

from mvla_pruned_ros.bags.reader import Bag
from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.messages.decode import image_to_rgb, stamp_ns
from mvla_pruned_ros.node.ros_messages import message_class
from mvla_pruned_ros.rigs.demo.record import topics_of
from mvla_pruned_ros.sim.metaworld.viewpoint import WIRING

TOPICS = topics_of(WIRING)

DOMAIN = ["--domain-id", os.environ["ROS_DOMAIN_ID"]]


@pytest.fixture(scope="module")
def bag_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the shipped policy, several short episodes."""
    folder = tmp_path_factory.mktemp("record") / "bag"
    arguments = ["--out", str(folder), "--seconds", "8", "--keep", "0.5", "--tasks", "push", "--max-steps", "32"]
    assert main(["record", *arguments, *DOMAIN]) == 0
    return folder


def test_bag_has_all_topics_and_frames_in_step(bag_folder: Path) -> None:
    with Bag(bag_folder) as bag:
        assert bag.types == {name: topic.type for name, topic in TOPICS.items()}
        counts = dict.fromkeys(TOPICS, 0)
        stamps = []
        for message in bag.messages(set(TOPICS)):
            counts[message.topic] += 1
            if message.topic == "/simulator/image":
                image = deserialize_message(message.data, message_class(bag.types[message.topic]))
                stamps.append(stamp_ns(image.header))
                assert image_to_rgb(image).shape == (192, 192, 3)
    assert all(counts[name] for name in TOPICS if name != "/diagnostics")
    assert len(stamps) >= 8 and set(np.diff(stamps)) == {50_000_000}
    assert counts["/simulator/depth"] == pytest.approx(len(stamps), abs=1)
    assert (bag_folder / "metadata.yaml").is_file() and list(bag_folder.glob("*.mcap"))


def test_replayed_bag_brings_out_commands_and_diagnostics(
    bag_folder: Path, tiny_policy_folder: Path, tmp_path: Path
) -> None:
    arguments = [str(bag_folder), "--out", str(tmp_path), "--policy", str(tiny_policy_folder), "--keep", "0.35"]
    assert main(["replay", "--live", *arguments, *DOMAIN]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["frames_sent"] >= 8 and report["frames_received"] >= report["frames_sent"] - 1
    assert report["inferences"] >= 5 and report["commands_moving"] >= 20
    assert report["keep_ratio"] < 0.5
    (status,) = (s for name, s in report["diagnostics"].items() if name.startswith("policy"))
    assert int(status["frames_received"]) >= report["frames_sent"] - 1


def test_recorded_calls_come_out_the_same_when_they_are_made_again(bag_folder: Path, tmp_path: Path) -> None:
    """The shipped policy, pruned to half: same selections call by call, hence the same history, and same actions."""
    assert main(["replay", str(bag_folder), "--follow", "--out", str(tmp_path)]) == 0
    numbers = json.loads((tmp_path / "follow.json").read_text())
    rows = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    # Few calls on a busy machine, but of more than one episode.
    assert numbers["episodes"] >= 2 and numbers["followed"] == len(rows) >= 4
    assert numbers["selections_same"] == numbers["followed"]
    assert numbers["verdict"] == "exact", (numbers["largest_difference"], numbers["causes"])
    pruned = [row for row in rows if row["since_reset"]]
    assert len(pruned) >= 2 and all(row["kept"] == 104 for row in pruned)
    # Only a call whose messages or predecessors the recorder lost may be left out.
    assert numbers["calls"] - numbers["followed"] == sum(numbers["skipped"].values()) <= numbers["calls"] // 2


def test_recording_over_an_existing_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "--out", str(tmp_path), "--seconds", "1"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_what_is_no_bag_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["replay", str(tmp_path)]) == 2
    assert "not a readable bag" in capsys.readouterr().err
