"""Cameras that the hand carries, without tf: their poses from those of the end effector around each stamp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bags import write_bag
from scipy.spatial.transform import Rotation

from mvla_pruned_ros.bags.observations import BagFrame, BagFrames
from mvla_pruned_ros.bags.reader import Bag
from mvla_pruned_ros.bags.setup import BagSetup
from mvla_pruned_ros.bags.writer import bag_encoder
from mvla_pruned_ros.geometry.clouds import depth_to_points
from mvla_pruned_ros.messages.decode import ConversionError, Readers, stamp_ns
from mvla_pruned_ros.observation.builder import ObservationBuilder, observation_of
from mvla_pruned_ros.observation.frames import Frames, TransformError, of_the_hand
from mvla_pruned_ros.observation.streams import AFTER, pose_near
from mvla_pruned_ros.observation.synchronizer import Synchronizer
from mvla_pruned_ros.types import CameraModel, Observation

S, MS = 10**9, 10**6
OUTSIDE, WRIST = "camera_color_optical_frame", "wrist_optical_frame"
ON_HAND = np.eye(4)  # of the wrist camera in the frame of the end effector
ON_HAND[:3, :3], ON_HAND[:3, 3] = Rotation.from_euler("xyz", [0.2, -0.1, 0.7]).as_matrix(), (0.05, 0.02, -0.08)
STILL = np.eye(4)
STILL[:3, 3] = 0.0, 0.6, -1.0
FRAMES = Frames("base", OUTSIDE, {OUTSIDE: STILL}, hand={WRIST: ON_HAND})
make = bag_encoder()
DEPTH = np.random.default_rng(0).uniform(0.3, 1.0, (24, 32)).astype(np.float32)


def hand_at(stamp: int) -> np.ndarray:
    """(4, 4) of the hand: 0.3 m/s along a circle, 1 rad/s about an axis aslant that sways."""
    t = (stamp - 10 * S) / S
    pose = np.eye(4)
    pose[:3, :3] = (
        Rotation.from_rotvec(np.array([0.6, 0.0, 0.8]) * t) * Rotation.from_euler("x", 2.5 + 0.1 * np.sin(3 * t))
    ).as_matrix()
    pose[:3, 3] = 0.1 * np.cos(3 * t), 0.6 + 0.1 * np.sin(3 * t), 0.3
    return pose


def model(pose: np.ndarray) -> CameraModel:
    return CameraModel(32, 24, 30.0, 30.0, 16.0, 12.0, pose)


def pose_message(stamp: int) -> Any:
    hand = hand_at(stamp)
    return make.pose(hand[:3, 3], stamp, "base", Rotation.from_matrix(hand[:3, :3]).as_quat())


def fed(wrist_late_ns: int = 0, pose_every_ns: int = 10 * MS, seconds: float = 1.0) -> Synchronizer:
    """Poses at 100 Hz with stamps apart from those of the cameras at 30 Hz, all put in by the order of their stamps."""
    topics = {name: f"/policy/{name}" for name in (
        "image", "camera_info", "image_1", "image_1_camera_info", "depth_1", "depth_1_camera_info", "ee_pose", "gripper"
    )}  # fmt: skip
    store = Synchronizer(topics, unstamped=tuple(n for n in topics if n.endswith("info")), hand=True, kept_s=1e9)
    pixels = np.zeros((24, 32, 3), np.uint8)
    messages = [
        ("ee_pose", pose_message(stamp))
        for stamp in range(10 * S + 3_700_000, round((10 + seconds) * S), pose_every_ns)
    ]
    for k in range(2, int(30 * seconds) - 2):
        stamp = 10 * S + k * S // 30
        wrist = stamp + wrist_late_ns
        messages += [
            ("camera_info", make.camera_info(model(STILL), stamp, OUTSIDE)),
            ("image_1_camera_info", make.camera_info(model(STILL), wrist, WRIST)),
            ("depth_1_camera_info", make.camera_info(model(STILL), wrist, WRIST)),
            ("gripper", make.gripper(1.0, stamp, "base")),
            ("image", make.image(pixels, "rgb8", stamp, OUTSIDE)),
            ("image_1", make.image(pixels, "rgb8", wrist, WRIST)),
            ("depth_1", make.image(DEPTH, "32FC1", wrist, WRIST)),
        ]  # fmt: skip
    for name, message in sorted(messages, key=lambda one: stamp_ns(one[1].header)):
        store.put(name, message, 20 * S, 20 * S)
    return store


@pytest.mark.parametrize("pose_every_ms", [10, 1, 33])
@pytest.mark.parametrize("wrist_late_ms", [0, 14, -16])
def test_points_and_views_of_a_moving_wrist_are_where_they_were_at_their_own_stamps(
    wrist_late_ms: int, pose_every_ms: int
) -> None:
    store, builder, count = fed(wrist_late_ms * MS, pose_every_ms * MS), ObservationBuilder(FRAMES), 0
    limit_m, limit_rad = (1e-3, 1e-3) if pose_every_ms < 33 else (3e-3, 2e-3)
    while (matched := store.take(60 * MS)) is not None:
        seen = builder.build(matched, "go")
        wrist = stamp_ns(matched.messages["depth_1"].header)
        assert wrist == matched.stamp_ns + wrist_late_ms * MS
        truth = depth_to_points(DEPTH, model(hand_at(wrist) @ ON_HAND))
        assert np.linalg.norm(seen.points - truth, axis=1).max() < limit_m
        np.testing.assert_allclose(seen.views[1].camera.base_from_camera, hand_at(wrist) @ ON_HAND, atol=limit_m)
        np.testing.assert_array_equal(seen.views[0].camera.base_from_camera, STILL)
        turn = Rotation.from_matrix(hand_at(matched.stamp_ns)[:3, :3])
        assert (turn.inv() * Rotation.from_quat(seen.state.orientation)).magnitude() < limit_rad
        again = observation_of(matched.stamp_ns, matched.messages, "go", FRAMES)
        np.testing.assert_array_equal(again.points, seen.points)
        count += 1
    assert count > 20


def observed(poses: dict[str, int], stamp: int, **quaternion: float) -> np.ndarray:
    """(4, 4) of the wrist camera, with poses of these stamps."""
    messages: dict[str, Any] = {stream: pose_message(at) for stream, at in poses.items()}
    for message in messages.values():
        for name, value in quaternion.items():
            setattr(message.pose.orientation, name, value)
    messages |= {
        "image": make.image(np.zeros((24, 32, 3), np.uint8), "rgb8", stamp, WRIST),
        "camera_info": make.camera_info(model(STILL), stamp, WRIST),
        "points": make.cloud("xyz", np.ones((4, 3), np.float32), stamp, WRIST),
        "gripper": make.gripper(1.0, stamp, "base"),
    }
    frames = Frames("base", WRIST, hand={WRIST: ON_HAND})
    seen = observation_of(stamp, messages, "go", frames, readers=Readers(orientation=True))
    pose = seen.views[0].camera.base_from_camera
    way = Rotation.from_quat(seen.state.orientation).apply(ON_HAND[:3, 3])
    np.testing.assert_allclose(seen.state.position + way, pose[:3, 3], atol=1e-6)  # hand and camera go by one pose
    np.testing.assert_allclose(seen.points, np.tile(pose[:3, :3].sum(1) + pose[:3, 3], (4, 1)), atol=1e-6)
    return pose


@pytest.mark.parametrize("share", [-0.9, 0.0, 0.3, 1.0, 1.9])
def test_up_to_one_period_beyond_the_poses_the_hand_is_taken_to_go_on(share: float) -> None:
    """The clouds of the hand as well, and those of the first camera."""
    first, second = 10 * S, 10 * S + 10 * MS
    stamp = first + round(share * 10 * MS)
    poses = {pose_near("image"): first, pose_near("image") + AFTER: second, "ee_pose": second}
    np.testing.assert_allclose(observed(poses, stamp), hand_at(stamp) @ ON_HAND, atol=1e-4)


@pytest.mark.parametrize(
    "poses", [{"ee_pose": 10 * S}, {"ee_pose": 10 * S, pose_near("image"): 10 * S + 4 * MS}], ids=["one", "two"]
)
def test_beyond_that_where_the_hand_was_is_not_known(poses: dict[str, int]) -> None:
    with pytest.raises(TransformError, match=r"where the hand was at 10.009 s is not known: ~/ee_pose.*10.000 s"):
        observed(poses, 10 * S + 9 * MS)


def test_pose_without_orientation_is_refused_in_one_sentence() -> None:
    with pytest.raises(ConversionError) as refused:
        observed({"ee_pose": 10 * S}, 10 * S, x=0.0, y=0.0, z=0.0, w=0.0)
    assert str(refused.value) == (
        "end-effector pose (~/ee_pose) has a quaternion of length 0, and a rotation has 1: publish the orientation "
        "with it; cameras on the hand (hand_frames) cannot be placed without it"
    )


def test_pose_without_orientation_is_refused_for_a_policy_that_takes_it_and_read_for_others() -> None:
    bad = pose_message(10 * S)
    bad.pose.orientation.w += 2.0
    parts = {
        "image": make.image(np.zeros((24, 32, 3), np.uint8), "rgb8", 10 * S, OUTSIDE),
        "camera_info": make.camera_info(model(STILL), 10 * S, OUTSIDE),
        "points": make.cloud("xyz", np.ones((4, 3), np.float32), 10 * S, "base"),
        "gripper": make.gripper(1.0, 10 * S, "base"),
        "ee_pose": bad,
    }
    frames = Frames("base", OUTSIDE, {OUTSIDE: STILL})
    assert observation_of(10 * S, parts, "go", frames).state.orientation is None
    with pytest.raises(ConversionError, match=r"\(~/ee_pose\) has a quaternion of length 2\..*the policy takes it$"):
        observation_of(10 * S, parts, "go", frames, readers=Readers(orientation=True))


def test_where_tf_tells_the_end_effector_it_is_asked_at_each_stamp() -> None:
    frames = Frames("base", OUTSIDE, {}, lambda target, source, stamp: hand_at(stamp), "tool0", {WRIST: ON_HAND})
    np.testing.assert_array_equal(frames.pose(WRIST, 11 * S, "image"), hand_at(11 * S) @ ON_HAND)


def test_pose_in_a_frame_of_the_hand_leads_nowhere() -> None:
    assert not FRAMES.knows(WRIST) and FRAMES.knows(OUTSIDE)


def test_name_that_is_no_sensor_frame_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=f"hand_frames has 'hand', .*, only '{WRIST}' is"):
        of_the_hand({WRIST: ON_HAND}, ["hand"])
    still, hand = of_the_hand({WRIST: ON_HAND, OUTSIDE: STILL}, ["", WRIST])
    assert list(still) == [OUTSIDE] and list(hand) == [WRIST]


def test_bag_with_a_wrist_camera_only_is_read_with_the_same_words(
    tmp_path: Path, observation: Callable[..., Observation]
) -> None:
    seen = [observation(seed=i, stamp_ns=10 * S + i * 50 * MS) for i in range(4)]

    def with_turn(i: int, role: str, message: Any) -> Any:
        return pose_message(stamp_ns(message.header) + 7 * MS) if role == "ee_pose" else message

    write_bag(tmp_path / "bag", ["push the puck to the goal", *seen], change=with_turn)
    setup = BagSetup(base_from_camera=ON_HAND, hand_frames=[OUTSIDE])
    with Bag(tmp_path / "bag") as bag:
        got = [event.observation for event in BagFrames(bag, setup) if isinstance(event, BagFrame)]
    assert len(got) == 4
    for one in got:
        pose = hand_at(one.stamp_ns) @ ON_HAND
        np.testing.assert_allclose(one.views[0].camera.base_from_camera, pose, atol=5e-3)  # poses at 20 Hz
    with pytest.raises(ValueError, match="hand_frames has 'wrist'"), Bag(tmp_path / "bag") as bag:
        BagFrames(bag, BagSetup(base_from_camera=ON_HAND, hand_frames=["wrist"]))
    with pytest.raises(ValueError, match="leave hand_frames out"):
        BagSetup(extrinsics_source="tf", hand_frames=[OUTSIDE])


def test_parameters_of_the_node_place_the_camera_on_the_hand() -> None:
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    from mvla_pruned_ros.node.loading import frames_of
    from mvla_pruned_ros.node.parameters import SPECS, Settings

    defaults = {name: spec.default for name, spec in SPECS.items()}

    def frames(**values: Any) -> Frames:
        return frames_of(Settings.of(defaults | values), lambda: lambda *_: np.eye(4))

    given = {"extrinsics.translation": [0.0, 0.0, 1.0], "extrinsics.rotation_xyzw": [0.0, 0.0, 0.0, 1.0]}
    wrist = {"sensor_frames": [WRIST], "sensor_extrinsics": [0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 1.0]}
    made = frames(**given, **wrist, hand_frames=[WRIST])
    assert list(made.poses) == [OUTSIDE] and made.hand[WRIST][2, 3] == 0.1
    assert list(frames(**given, hand_frames=[OUTSIDE]).hand) == [OUTSIDE]
    with pytest.raises(ValueError, match="hand_frames has 'hand', which is neither camera_frame nor one of"):
        frames(**given, **wrist, hand_frames=["hand"])
    with pytest.raises(ValueError, match="leave hand_frames out"):
        frames(extrinsics_source="tf", hand_frames=[OUTSIDE])
