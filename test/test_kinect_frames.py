"""Frames of a real depth camera: a third of the depth is missing, edges are ragged, borders are black."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from kinect import BASE, CAMERA, WORKSPACE, View, camera_model, needs_kinect, write_kinect_bag
from rosbags.rosbag2 import StoragePlugin

from mvla_pruned_ros.bags.observations import BagFrame, BagFrames
from mvla_pruned_ros.bags.reader import Bag
from mvla_pruned_ros.bags.setup import BagSetup
from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.types import Observation

pytestmark = needs_kinect
NEAREST_M = 0.5  # a Kinect of the first generation sees nothing nearer


def observations(folder: Path, setup: BagSetup) -> list[Observation]:
    with Bag(folder) as bag:
        return [event.observation for event in BagFrames(bag, setup) if isinstance(event, BagFrame)]


def setup_of(view: View) -> BagSetup:
    return BagSetup(base_frame=BASE, camera_frame=CAMERA, base_from_camera=view.base_from_camera)


@pytest.fixture(scope="module")
def room_policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with random weights that looks at a room instead of a table top."""
    import torch

    from mvla_pruned_ros.policy.mvla.checkpoint import save_policy
    from mvla_pruned_ros.policy.mvla.config import MVLAConfig
    from mvla_pruned_ros.policy.mvla.instruction import InstructionTokenizer
    from mvla_pruned_ros.policy.mvla.model import MVLAModel
    from mvla_pruned_ros.policy.mvla.normalization import ActionNormalization
    from mvla_pruned_ros.sim.metaworld.tasks import TASKS

    torch.manual_seed(0)
    config = MVLAConfig(workspace_lower=WORKSPACE[0], workspace_upper=WORKSPACE[1], voxel_size=0.04, group_radius=0.2)
    words = InstructionTokenizer.from_instructions(
        [task.instruction for task in TASKS.values()], config.instruction_length
    )
    limits = np.array([0.5, 0.5, 0.5, 1.0], np.float32)
    folder = tmp_path_factory.mktemp("room_policy")
    save_policy(folder, MVLAModel(config, words.size), words, ActionNormalization(-limits, limits))
    return folder


@pytest.mark.parametrize(("plugin", "big_endian"), [(StoragePlugin.MCAP, False), (StoragePlugin.SQLITE3, True)])
def test_holes_are_masked_and_every_reading_lies_where_it_was_seen(
    tmp_path: Path, plugin: StoragePlugin, big_endian: bool
) -> None:
    frames = write_kinect_bag(tmp_path / "bag", plugin, big_endian)
    got = observations(tmp_path / "bag", setup_of(frames[0]))
    assert len(got) == len(frames) == 5
    for seen, sent in zip(got, frames):
        known = sent.millimetres > 0
        assert 0.2 < 1 - known.mean() < 0.4, "the frames that come with this test have a third of holes"
        assert len(seen.points) == known.sum()
        distance = np.linalg.norm(seen.points - frames[0].base_from_camera[:3, 3], axis=1)
        assert distance.min() > NEAREST_M, "a hole became a point at the camera"
        uv, depth = camera_model(frames[0].base_from_camera).project(seen.points)
        v, u = np.nonzero(known)
        np.testing.assert_allclose(uv, np.stack([u, v], 1) + 0.5, atol=2e-3)
        np.testing.assert_allclose(depth, sent.millimetres[known] / 1000, atol=1e-5)
        np.testing.assert_array_equal(seen.views[0].image, sent.colour)


def test_replay_makes_the_whole_report(tmp_path: Path, room_policy_folder: Path) -> None:
    write_kinect_bag(tmp_path / "bag")
    out, config = tmp_path / "out", tmp_path / "kinect.yaml"
    config.write_text(
        "extrinsics: {translation: [0, 0, 0], rotation_xyzw: [0.5, -0.5, 0.5, -0.5]}  # looks along x, z is up\n"
    )
    arguments = ["--policy", str(room_policy_folder), "--keep", "0.35", "--bag-config", str(config)]
    assert main(["replay", str(tmp_path / "bag"), *arguments, "--out", str(out)]) == 0
    report = json.loads((out / "replay.json").read_text())
    assert report["frames"] == 5 and report["drops"] == {} and 0.3 < report["keep_ratio"] < 0.5
    page = (out / "replay.html").read_text()
    assert page.count("<img src='data:image") == 5 and "default-src 'none'" in page
    with Bag(out / "annotated") as bag:
        clouds = [bag.decode(message) for message in bag.messages({"/mvla/kept_points"})]
    assert len(clouds) == 5
    for cloud in clouds:
        xyz = cloud.data.view("<f4").reshape(cloud.width, -1)[:, :3]
        assert len(xyz) > 5 and (xyz >= WORKSPACE[0]).all() and (xyz <= WORKSPACE[1]).all()
        assert np.linalg.norm(xyz, axis=1).min() > NEAREST_M
