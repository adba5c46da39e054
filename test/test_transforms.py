"""tf of a bag: between stamps, across the tree, never beyond what is known; clouds of a moving camera come together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bags import BASE, CAMERA, numbers_of, write_bag
from kinect import camera_model, needs_kinect, views
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from mvla_pruned_ros.bags.observations import BagFrame, BagFrames
from mvla_pruned_ros.bags.reader import Bag
from mvla_pruned_ros.bags.setup import BagSetup
from mvla_pruned_ros.bags.tf_tree import TransformTree
from mvla_pruned_ros.geometry.clouds import depth_to_points
from mvla_pruned_ros.observation.frames import TransformError
from mvla_pruned_ros.types import Observation

S = 10**9
PUSH = "push the puck to the goal"


def transform(stamp_ns: int, parent: str, child: str, pose: np.ndarray) -> SimpleNamespace:
    x, y, z, qx, qy, qz, qw = numbers_of(pose)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=stamp_ns // S, nanosec=stamp_ns % S), frame_id=parent),
        child_frame_id=child,
        transform=SimpleNamespace(
            translation=SimpleNamespace(x=x, y=y, z=z), rotation=SimpleNamespace(x=qx, y=qy, z=qz, w=qw)
        ),
    )


def pose(x: float, y: float, z: float, yaw_deg: float = 0.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("z", yaw_deg, degrees=True).as_matrix()
    matrix[:3, 3] = x, y, z
    return matrix


@pytest.fixture
def tree() -> TransformTree:
    """world -> base (still), base -> wrist (moves and turns), wrist -> camera (still), world -> lamp (still)."""
    tree = TransformTree()
    tree.add(
        [transform(2 * S, "base", "wrist", pose(2, 0, 0, 90)), transform(S, "base", "wrist", pose(1, 0, 0, 0))], False
    )
    tree.add([transform(0, "world", "base", pose(0, 0, 1)), transform(0, "wrist", "camera", pose(0.5, 0, 0))], True)
    tree.add([transform(0, "world", "lamp", pose(0, 0, 3))], True)
    return tree


def test_between_two_stamps_it_is_on_the_way(tree: TransformTree) -> None:
    half = tree.lookup("base", "wrist", 3 * S // 2)
    np.testing.assert_allclose(half, pose(1.5, 0, 0, 45), atol=1e-12)
    quarter = tree.lookup("base", "camera", 5 * S // 4)
    turn = np.deg2rad(22.5)
    np.testing.assert_allclose(quarter[:3, 3], [1.25 + 0.5 * np.cos(turn), 0.5 * np.sin(turn), 0], atol=1e-12)
    for stamp, expected in ((S, pose(1, 0, 0, 0)), (2 * S, pose(2, 0, 0, 90))):
        np.testing.assert_allclose(tree.lookup("base", "wrist", stamp), expected, atol=1e-12)


def test_any_two_frames_of_the_tree_are_connected(tree: TransformTree) -> None:
    np.testing.assert_allclose(tree.lookup("lamp", "base", 0), pose(0, 0, -2), atol=1e-12)
    there, back = tree.lookup("lamp", "camera", S), tree.lookup("camera", "lamp", S)
    np.testing.assert_allclose(there, pose(1.5, 0, -2), atol=1e-12)
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(tree.lookup("base", "base", 0), np.eye(4))


def test_nothing_is_made_up(tree: TransformTree) -> None:
    for stamp in (S - 1, 2 * S + 1):
        with pytest.raises(TransformError, match=r"'wrist' in 'base' is known from 1.000 s to 2.000 s, not at"):
            tree.lookup("base", "camera", stamp)
    with pytest.raises(
        TransformError, match="no transform leads from 'hand' to 'base'; frames in the bag: base, camera"
    ):
        tree.lookup("base", "hand", S)
    with pytest.raises(TransformError, match="frames in the bag: none"):
        TransformTree().lookup("base", "camera", S)
    broken = transform(S, "base", "hand", pose(0, 0, 0))
    broken.transform.translation.x = float("nan")
    tree.add([broken], True)
    with pytest.raises(TransformError, match="from 'hand'"):
        tree.lookup("base", "hand", S)


def test_second_parent_matters_to_the_frames_below_it_alone(tree: TransformTree) -> None:
    tree.add([transform(S, "world", "wrist", pose(0, 0, 0))], False)
    with pytest.raises(ValueError, match="'wrist' has two parents, 'base' and 'world'"):
        tree.lookup("base", "camera", S)
    np.testing.assert_allclose(tree.lookup("lamp", "base", 0), pose(0, 0, -2), atol=1e-12)


@pytest.fixture
def frames(observation: Callable[..., Observation]) -> list[Any]:
    return [PUSH, *(observation(seed=i, stamp_ns=S + i * 50_000_000) for i in range(4))]


def read(folder: Path, setup: BagSetup) -> tuple[list[Observation], dict[str, int]]:
    with Bag(folder) as bag:
        events = BagFrames(bag, setup)
        return [event.observation for event in events if isinstance(event, BagFrame)], dict(events.drops)


def test_camera_of_a_bag_moves_with_its_tf(tmp_path: Path, frames: list[Any]) -> None:
    seen = frames[1]
    still = seen.views[0].camera.base_from_camera
    moved = {S: still, S + 200_000_000: pose(0.2, 0, 0) @ still}
    transforms = [(stamp, "arm", CAMERA, matrix) for stamp, matrix in moved.items()]
    write_bag(tmp_path / "bag", frames, transforms=[*transforms, (0, BASE, "arm", np.eye(4))])
    got, drops = read(tmp_path / "bag", BagSetup(extrinsics_source="tf"))
    assert len(got) == 4 and not drops
    for i, observation in enumerate(got):
        shift = 0.05 * i
        np.testing.assert_allclose(
            observation.views[0].camera.base_from_camera[:3, 3], still[:3, 3] + [shift, 0, 0], atol=1e-9
        )
        table = observation.points[np.abs(observation.points[:, 2] - 0.01) < 2e-3]  # the table is where it is
        assert len(table) > 1000 and table[:, 0].min() > -0.42 + shift and table[:, 0].max() < 0.42 + shift


def test_frame_of_a_bag_without_transform_is_left_out_and_counted(tmp_path: Path, frames: list[Any]) -> None:
    still = frames[1].views[0].camera.base_from_camera
    transforms = [(S + 60_000_000, BASE, CAMERA, still), (S + 120_000_000, BASE, CAMERA, still)]
    write_bag(tmp_path / "bag", frames, transforms=transforms)
    got, drops = read(tmp_path / "bag", BagSetup(extrinsics_source="tf"))
    assert [o.stamp_ns for o in got] == [S + 100_000_000] and drops == {"no transform": 3}


def test_bag_without_tf_and_poses_given_twice_are_refused(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "bag", frames)
    with pytest.raises(ValueError, match=r"no topic for tf \(/tf, /tf_static\)"):
        read(tmp_path / "bag", BagSetup(extrinsics_source="tf"))
    with pytest.raises(ValueError, match="give one of the two"):
        BagSetup(extrinsics_source="tf", base_from_camera=np.eye(4))


@needs_kinect
def test_clouds_of_a_real_camera_that_moves_come_together() -> None:
    """The poses that come with the frames were not made here: a wrong convention would tear the room."""
    tree = TransformTree()
    found = views()
    tree.add([transform(i * S, BASE, CAMERA, view.base_from_camera) for i, view in enumerate(found, 1)], False)

    def cloud(i: int, stamp: int) -> np.ndarray:
        depth = np.where(found[i].millimetres < 4000, found[i].millimetres, 0).astype(np.float32) / 1000
        return depth_to_points(depth, camera_model(tree.lookup(BASE, CAMERA, stamp)))[::20]

    for i in range(1, 4):  # the first looks elsewhere
        first, second = cloud(i, (i + 1) * S), cloud(i + 1, (i + 2) * S)
        together = np.median(cKDTree(first).query(second)[0])
        torn = np.median(cKDTree(first).query(cloud(i + 1, (i + 1) * S))[0])
        assert together < 0.05 and torn > 1.5 * together
