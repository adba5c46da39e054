"""Bags of any topic names: the same observations as the live node makes, and clear words about what is missing."""

from __future__ import annotations

import argparse
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bags import BASE, CAMERA, depth_of, numbers_of, write_bag
from depth_codecs import compressed_metres, compressed_millimetres
from PIL import Image as Picture
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore

from mvla_pruned_ros.bags.observations import BagFrame, BagFrames, BagSignal
from mvla_pruned_ros.bags.reader import STORE, Bag
from mvla_pruned_ros.bags.setup import ROLES, TOPICS, BagSetup
from mvla_pruned_ros.bags.writer import BagWriter, bag_encoder
from mvla_pruned_ros.cli.bag_options import add_bag_arguments, bag_setup
from mvla_pruned_ros.geometry.poses import look_at
from mvla_pruned_ros.messages.encode import Encoder
from mvla_pruned_ros.sim.metaworld.viewpoint import POSITION, TARGET
from mvla_pruned_ros.types import CameraModel, Observation, View

PUSH, CLOSE = "push the puck to the goal", "close the faucet"
FOREIGN = {
    "image": "/camera/color/image_raw", "depth": "/camera/aligned_depth_to_color/image_raw",
    "camera_info": "/camera/color/camera_info", "ee_pose": "/arm/pose", "gripper": "/hand/joint_states",
    "instruction": "/task", "twist": "/servo/twist", "gripper_command": "/hand/command",
}  # fmt: skip
STEP_NS = 50_000_000
DEPTH = "camera_depth_optical_frame"


@pytest.fixture
def frames(observation: Callable[..., Observation]) -> list[Any]:
    views = [observation(seed=i, stamp_ns=10**9 + i * STEP_NS) for i in range(5)]
    return [views[0], PUSH, views[1], views[2], CLOSE, views[3], views[4]]


def setup_for(frames: list[Any], **changes: Any) -> BagSetup:
    return BagSetup(**{"topics": FOREIGN, "base_from_camera": frames[0].views[0].camera.base_from_camera, **changes})


def read(folder: Path, setup: BagSetup, signals: bool = False) -> list[Any]:
    with Bag(folder) as bag:
        return list(BagFrames(bag, setup, signals))


def assert_equal(a: Any, b: Any) -> None:
    """To the last bit, in whatever it holds."""
    if dataclasses.is_dataclass(a):
        a, b = (tuple(getattr(x, one.name) for one in dataclasses.fields(a)) for x in (a, b))  # type: ignore[arg-type]
    if isinstance(a, tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b):
            assert_equal(one, other)
    else:
        np.testing.assert_array_equal(a, b)


def test_foreign_topics_give_back_what_the_sensors_saw(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "bag", frames, topics=FOREIGN)
    sent = [f for f in frames if not isinstance(f, str)][1:]  # what came before any instruction cannot be acted on
    with Bag(tmp_path / "bag") as bag:
        events = BagFrames(bag, setup_for(frames))
        got = [event for event in events if isinstance(event, BagFrame)]
    assert events.drops == {"before the first instruction": 1}
    assert [(f.episode, f.begins) for f in got] == [(0, True), (0, False), (1, True), (1, False)]
    assert [f.observation.instruction for f in got] == [PUSH] * 2 + [CLOSE] * 2
    for frame, original in zip(got, sent):
        seen = frame.observation
        assert seen.stamp_ns == original.stamp_ns and seen.views[0].camera.cx == original.views[0].camera.cx
        np.testing.assert_array_equal(seen.views[0].image, original.views[0].image)
        np.testing.assert_array_equal(seen.state.position, original.state.position)
        assert seen.state.gripper == original.state.gripper
        assert len(seen.points) == np.isfinite(depth_of(original)).sum() and seen.views[0].image.flags.writeable


def test_commands_come_with_the_stamp_they_belong_to(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "bag", frames, topics=FOREIGN, commands=True)
    signals = [e for e in read(tmp_path / "bag", setup_for(frames), signals=True) if isinstance(e, BagSignal)]
    twists = [s for s in signals if s.role == "twist"]
    grips = [s for s in signals if s.role == "gripper_command"]
    assert [s.stamp_ns for s in twists] == [10**9 + i * 12_500_000 for i in range(20)]
    assert [s.stamp_ns for s in grips] == [s.stamp_ns for s in twists]  # Float64 has no stamp of its own
    np.testing.assert_allclose([s.value[0] for s in twists], np.arange(20) * 0.001)
    assert [float(s.value[0]) for s in grips] == [-1.0] * 8 + [1.0] * 12


def test_missing_topic_is_named_with_all_there_are(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "bag", frames, topics=FOREIGN)
    with pytest.raises(ValueError, match=r"no topic for image \(/simulator/image\)") as error:
        read(tmp_path / "bag", BagSetup())
    assert "/camera/color/image_raw  sensor_msgs/msg/Image" in str(error.value) and "--remap" in str(error.value)
    without = {role: topic for role, topic in FOREIGN.items() if role != "instruction"}
    with pytest.raises(ValueError, match="or give --instruction"):
        read(tmp_path / "bag", setup_for(frames, topics=without))
    with pytest.raises(ValueError, match=r"/task in .* has type std_msgs/msg/String, but image takes"):
        read(tmp_path / "bag", setup_for(frames, topics=FOREIGN | {"image": "/task"}))


def test_extrinsics_are_never_guessed(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "foreign", frames, topics=FOREIGN)
    with pytest.raises(ValueError, match="identity would be a guess"):
        read(tmp_path / "foreign", setup_for(frames, base_from_camera=None))
    write_bag(tmp_path / "ours", frames)
    ours = BagSetup()
    assert ours.of_mvla_record and not setup_for(frames).of_mvla_record
    with pytest.raises(ValueError, match="identity would be a guess"):
        read(tmp_path / "ours", ours)


def test_words_for_the_whole_bag_and_other_ways_to_split(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "bag", [PUSH, frames[0], PUSH, *frames[2:]], topics=FOREIGN)
    assert [f.episode for f in read(tmp_path / "bag", setup_for(frames))] == [0, 1, 1, 2, 2]
    assert [f.episode for f in read(tmp_path / "bag", setup_for(frames, split="bag"))] == [0, 0, 0, 1, 1]
    told = read(tmp_path / "bag", setup_for(frames, instruction="open the drawer"))
    assert [(f.episode, f.observation.instruction) for f in told] == [(0, "open the drawer")] * 5


def test_clock_that_goes_back_begins_an_episode(tmp_path: Path, frames: list[Any]) -> None:
    back = [dataclasses.replace(f, stamp_ns=f.stamp_ns + 10**10) for f in (frames[2], frames[3])]
    write_bag(tmp_path / "bag", [PUSH, *back, frames[0], frames[2]], topics=FOREIGN)
    assert [f.episode for f in read(tmp_path / "bag", setup_for(frames))] == [0, 0, 1, 1]


def test_bag_without_a_usable_frame_says_why(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "bag", frames, topics=FOREIGN)
    with pytest.raises(ValueError, match=r"malformed: 4.*depth image is in frame 'camera_color_optical_frame', not"):
        read(tmp_path / "bag", setup_for(frames, camera_frame="lens"))


def test_setup_from_files(tmp_path: Path) -> None:
    own, node = tmp_path / "own.yaml", tmp_path / "node.yaml"
    pose = "extrinsics: {translation: [1, 2, 3], rotation_xyzw: [0, 0, 0, 1]}"
    own.write_text(f"topics: {{image: /a}}\nbase_frame: world\n{pose}\n")
    setup = BagSetup.load(own).with_remaps(["depth:=/b", "~/points:=/c"])
    assert setup.topics == {"image": "/a", "depth": "/b", "points": "/c"} and setup.base_frame == "world"
    assert setup.base_from_camera is not None and setup.base_from_camera[:3, 3].tolist() == [1, 2, 3]
    node.write_text(f"/**/policy:\n  ros__parameters:\n    keep_ratio: 0.5\n    camera_frame: lens\n    {pose}\n")
    assert BagSetup.load(node).camera_frame == "lens"
    for text, says in (("topic: {}", "unknown key 'topic'"), ("topics: {eye: /a}", "unknown topic role 'eye'"),
                       (pose.replace("0, 0, 0, 1", "0, 0, 0, 2"), "a quaternion needs 1")):  # fmt: skip
        own.write_text(text)
        with pytest.raises(ValueError, match=says):
            BagSetup.load(own)
    with pytest.raises(ValueError, match="is no remap"):
        BagSetup().with_remaps(["image=/a"])


def test_setup_of_other_cameras(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    text = (root / "config" / "robot.yaml").read_text()
    node = tmp_path / "node.yaml"
    node.write_text(text.replace("[.nan, .nan, .nan, .nan]", "[0, 0, 0, 1]").replace("[.nan, .nan, .nan]", "[1, 2, 3]"))
    setup = BagSetup.load(node)  # as it comes, nothing but the camera is set
    assert setup.depth_registered and list(setup.frames().poses) == [setup.camera_frame]
    node.write_text(text.replace("extrinsics_source: parameters", "extrinsics_source: tf"))
    assert BagSetup.load(node).from_tf and BagSetup.load(node).frames().poses == {}
    parser = argparse.ArgumentParser()
    add_bag_arguments(parser)
    words = ["--extrinsics", *"1230001", "--sensor-frame", "left", *"4560001", "--remap", "depth_1:=/a"]
    setup = bag_setup(parser.parse_args(words))
    assert setup.frames().poses["left"][:3, 3].tolist() == [4, 5, 6] and setup.topics == {"depth_1": "/a"}
    with pytest.raises(ValueError, match="a name and seven numbers, got 'x'"):
        bag_setup(parser.parse_args(["--sensor-frame", "left", *"x560001"]))
    with pytest.raises(ValueError, match="unknown topic role 'depth_0'.*depth_1_camera_info"):
        BagSetup(topics={"depth_0": "/a"})
    with pytest.raises(ValueError, match="extrinsics_source is 'guess': choose from parameters, tf"):
        BagSetup(extrinsics_source="guess")


def test_topics_that_are_named_are_read_and_those_of_the_setup_must_be_there(tmp_path: Path, frames: list[Any]) -> None:
    write_bag(tmp_path / "bag", frames, topics=FOREIGN | {"depth": "/depth"})
    with Bag(tmp_path / "bag") as bag:
        base = FOREIGN | {"depth": "/depth"}
        two = setup_for(frames, topics=base | {"depth_1": "/depth", "depth_1_camera_info": FOREIGN["camera_info"]})
        assert {"depth", "depth_1", "depth_1_camera_info"} <= set(two.resolve(bag))
        own = setup_for(frames, topics=base | {"depth_camera_info": FOREIGN["camera_info"]})
        assert "depth_camera_info" in own.resolve(bag)
        assert "depth_camera_info" not in setup_for(frames, topics=base).resolve(bag)
        for changes, says in (
            ({"depth_registered": False}, r"depth_camera_info \(/simulator/depth_camera_info\)"),
            ({"extra_clouds": ["points_1"]}, r"points_1 \(/simulator/points_1\)"),
            ({"topics": base | {"points_1": "/depth"}}, "Image, but points_1 takes sensor_msgs/msg/PointCloud2"),
        ):
            with pytest.raises(ValueError, match=says):
                setup_for(frames, **{"topics": base, **changes}).resolve(bag)
    alone = read(tmp_path / "bag", setup_for(frames, topics=base))
    for setup, times in ((two, 2), (own, 1)):  # one topic may have two roles
        got = read(tmp_path / "bag", setup)
        assert [len(f.observation.points) for f in got] == [times * len(f.observation.points) for f in alone]


def own_depth_camera() -> CameraModel:
    """Beside the colour camera, wider than high."""
    pose = look_at(POSITION + [0.05, 0.0, 0.01], TARGET)
    return CameraModel(160, 90, 120.0, 120.0, 80.5, 44.5, pose)


def sensor_variants(make: Encoder, seen: Observation) -> dict[str, dict[str, Any]]:
    """Colour and depth or cloud in the forms that are understood."""
    stamp, depth = seen.stamp_ns, depth_of(seen)
    known = np.isfinite(depth)
    padded = make.image(np.pad(seen.views[0].image[..., ::-1], ((0, 0), (0, 3), (0, 0))), "bgr8", stamp, CAMERA)
    padded.width -= 3
    png = io.BytesIO()
    Picture.fromarray(seen.views[0].image).save(png, "PNG")
    compressed = make.jpeg(seen.views[0].image, stamp, CAMERA)
    compressed.format, compressed.data = "rgb8; png compressed", np.frombuffer(png.getvalue(), np.uint8)
    millimetres = make.image((np.where(known, depth, 0) * 1000).astype("<u2"), "16UC1", stamp, CAMERA)
    local = (seen.points - seen.views[0].camera.base_from_camera[:3, 3]) @ seen.views[0].camera.base_from_camera[:3, :3]
    clouds = {
        frame: make.cloud(("x", "y", "z", "rgb"), np.column_stack([xyz, np.zeros(len(xyz))]), stamp, frame)
        for frame, xyz in ((BASE, seen.points), (CAMERA, local))
    }
    packed = {}
    for kind, data in (
        ("16UC1; compressedDepth rvl", compressed_millimetres((np.where(known, depth, 0) * 1000).astype("<u2"), "rvl")),
        ("32FC1; compressedDepth png", compressed_metres(depth)),
    ):
        packed[kind] = make.jpeg(seen.views[0].image, stamp, CAMERA)
        packed[kind].format, packed[kind].data = kind, np.frombuffer(data, np.uint8)
    own = own_depth_camera()
    view = View("image", np.zeros((own.height, own.width, 3), np.uint8), own)
    own_depth = depth_of(dataclasses.replace(seen, views=(view,)))
    rgba = make.image(np.dstack([seen.views[0].image, seen.views[0].image[..., 0]]), "rgba8", stamp, CAMERA)
    return {
        "padded bgr8, 16UC1": {"image": padded, "depth": millimetres},
        "png, cloud of the camera": {"image": compressed, "points": clouds[CAMERA]},
        "rgba8, cloud of the base": {"image": rgba, "points": clouds[BASE]},
        "rgba8, compressed 16UC1": {"image": rgba, "depth": packed["16UC1; compressedDepth rvl"]},
        "rgba8, compressed 32FC1": {"image": rgba, "depth": packed["32FC1; compressedDepth png"]},
        "rgba8, depth camera of its own": {
            "image": rgba, "depth": make.image(own_depth, "32FC1", stamp, DEPTH),
            "depth_camera_info": make.camera_info(own, stamp, DEPTH),
        },
        "rgba8, three cameras": {
            "image": rgba, "depth": make.image(depth, "32FC1", stamp, CAMERA), "points_1": clouds[BASE],
            "depth_2": make.image(own_depth, "32FC1", stamp, DEPTH),
            "depth_2_camera_info": make.camera_info(own, stamp, DEPTH),
        },
        "yuyv, 32FC1": {
            "image": make.image(seen.views[0].image[..., :2], "yuv422_yuy2", stamp, CAMERA),
            "depth": make.image(depth, "32FC1", stamp, CAMERA),
        },
        "jpeg, 32FC1": {
            "image": make.jpeg(seen.views[0].image, stamp, CAMERA), "depth": make.image(depth, "32FC1", stamp, CAMERA)
        },
    }  # fmt: skip


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize(
    "variant",
    [
        "padded bgr8, 16UC1",
        "png, cloud of the camera",
        "rgba8, cloud of the base",
        "jpeg, 32FC1",
        "yuyv, 32FC1",
        "rgba8, compressed 16UC1",
        "rgba8, compressed 32FC1",
        "rgba8, depth camera of its own",
        "rgba8, three cameras",
    ],
)
def test_bag_and_live_node_see_the_same(tmp_path: Path, frames: list[Any], variant: str, plugin: StoragePlugin) -> None:
    """The same bytes through rclpy, the node's store and its conversion, and through the reader of bags."""
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    from rclpy.serialization import deserialize_message

    from mvla_pruned_ros.node.ros_messages import installed_readers, message_class
    from mvla_pruned_ros.observation.builder import observation_of
    from mvla_pruned_ros.observation.synchronizer import Synchronizer

    if "yuyv" in variant:
        pytest.importorskip("cv2", reason="OpenCV is not installed")
    make, seen, types = bag_encoder(), frames[0], get_typestore(STORE)
    stamp = seen.stamp_ns
    messages = {
        "instruction": make.text(PUSH),
        "camera_info": make.camera_info(seen.views[0].camera, stamp, CAMERA),
        "ee_pose": make.pose(seen.state.position, stamp + 3_000_000, BASE),
        "gripper": make.gripper(seen.state.gripper, stamp - 20_000_000, BASE),
        **sensor_variants(make, seen)[variant],
    }
    live: dict[str, Any] = {}
    with Writer(tmp_path / "bag", version=9, storage_plugin=plugin) as writer:
        for role, message in messages.items():
            kind = message.__msgtype__
            data = types.serialize_cdr(message, kind)
            topic = TOPICS.get(role, f"/simulator/{role}")
            connection = writer.add_connection(topic, kind, typestore=types)
            writer.write(connection, 5 * 10**9, data)
            live[role] = deserialize_message(bytes(data), message_class(kind))
    setup = BagSetup(
        base_from_camera=seen.views[0].camera.base_from_camera,
        depth_registered="depth_camera_info" not in messages,
        extra_clouds=[role for role in messages if role in ("points_1", "depth_2")],
        sensor_frames=[DEPTH],
        sensor_extrinsics=numbers_of(own_depth_camera().base_from_camera),
    )
    (frame,) = read(tmp_path / "bag", setup)
    infos = tuple(role for role in live if role.endswith("camera_info"))
    store = Synchronizer({role: role for role in live if role != "instruction"}, unstamped=infos)
    for role in store.topics:
        store.put(role, live[role], stamp, 500_000_000)
    matched = store.wait(60_000_000, 1.0)
    assert matched is not None
    words, readers = live["instruction"].data, installed_readers()[0]
    expected = observation_of(matched.stamp_ns, matched.messages, words, setup.frames(), readers=readers)
    assert_equal(frame.observation, expected)
    assert len(expected.points) > 1000
    if not variant.startswith(("jpeg", "yuyv")):
        np.testing.assert_array_equal(expected.views[0].image, seen.views[0].image)


def test_roles_and_topics_are_those_that_are_recorded() -> None:
    pytest.importorskip("rclpy", reason="ROS is neither sourced nor installed as wheels")
    pytest.importorskip("metaworld", reason="the simulator (Meta-World) is not installed")
    from mvla_pruned_ros.rigs.demo.record import topics_of
    from mvla_pruned_ros.sim.metaworld.viewpoint import WIRING

    assert {TOPICS[role]: ROLES[role][0] for role in ROLES if role != "points"}.items() <= {
        name: topic.type for name, topic in topics_of(WIRING).items()
    }.items()


def test_writing_over_a_bag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exists already"):
        BagWriter(tmp_path, {})
