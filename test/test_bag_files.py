"""Files of bags as they are found: damaged, cut off, compressed, without metadata, beside what nobody asked for."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from bags import write_bag
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_typestore

from mvla_pruned_ros.bags.observations import BagFrame, BagFrames
from mvla_pruned_ros.bags.reader import STORE, Bag, DamagedMessageError
from mvla_pruned_ros.bags.setup import BagSetup
from mvla_pruned_ros.bags.writer import bag_encoder
from mvla_pruned_ros.cli.main import main
from mvla_pruned_ros.sim.metaworld.viewpoint import camera_pose
from mvla_pruned_ros.types import Observation

TEXT, NUMBER = "std_msgs/msg/String", "std_msgs/msg/Float64"
PUSH = "push the puck to the goal"
ZSTD = b"\x28\xb5\x2f\xfd"


def write_words(
    folder: Path, count: int = 60, plugin: StoragePlugin = StoragePlugin.MCAP, mode: CompressionMode | None = None,
    size: int = 100_000, more: tuple[tuple[str, str], ...] = (), start_ns: int = 10**9,
) -> Path:  # fmt: skip
    """Texts of ``size`` letters on /words, a megabyte in a chunk, each after a number on /number.

    Args:
        more: topics and types of one message each, at the end.
    """
    store, make = get_typestore(STORE), bag_encoder()
    writer = Writer(folder, version=9, storage_plugin=plugin)
    if mode is not None:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        words, numbers = (
            writer.add_connection(t, k, typestore=store) for t, k in (("/words", TEXT), ("/number", NUMBER))
        )
        others = [writer.add_connection(topic, kind, typestore=store) for topic, kind in more]
        for i in range(count):
            writer.write(numbers, start_ns + i * 1000, store.serialize_cdr(make.number(i), NUMBER))
            writer.write(
                words, start_ns + i * 1000 + 500, store.serialize_cdr(make.text(f"{i:03d}" * (size // 3)), TEXT)
            )
        for one in others:
            message = make.number(0) if one.msgtype == NUMBER else make.text("")
            writer.write(one, 2 * 10**9, store.serialize_cdr(message, one.msgtype))
    return folder


def file_of(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.name != "metadata.yaml")


def read_words(path: Path) -> tuple[list[int], Bag]:
    with Bag(path) as bag:
        return [int(bag.decode(m).data[:3]) for m in bag.messages({"/words"})], bag


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("mode", [None, CompressionMode.FILE, CompressionMode.MESSAGE, CompressionMode.STORAGE])
def test_bag_is_read_as_rosbags_reads_it(tmp_path: Path, plugin: StoragePlugin, mode: CompressionMode | None) -> None:
    if (plugin, mode) == (StoragePlugin.SQLITE3, CompressionMode.STORAGE):
        pytest.skip("a database is not compressed inside")
    folder = write_words(tmp_path / "bag", plugin=plugin, mode=mode)
    with Bag(folder) as bag, AnyReader([folder], default_typestore=get_typestore(STORE)) as reader:
        assert bag.types == {c.topic: c.msgtype for c in reader.connections}
        assert bag.counts == {topic: info.msgcount for topic, info in reader.topics.items()}
        pairs = zip(bag.messages({"/words", "/number"}), reader.messages(), strict=True)
        for mine, (connection, time_ns, data) in pairs:
            assert (mine.topic, mine.offset_ns, mine.data) == (connection.topic, time_ns - 10**9, bytes(data))


@pytest.mark.parametrize("mode", [None, CompressionMode.STORAGE])
def test_messages_around_a_damaged_chunk_are_read_and_the_lost_ones_counted(
    tmp_path: Path, mode: CompressionMode | None
) -> None:
    folder = write_words(tmp_path / "bag", mode=mode)
    file = file_of(folder)
    data = bytearray(file.read_bytes())
    at = data.index(ZSTD, data.index(ZSTD) + 4) if mode else data.index(b"020020020") - 60
    data[at : at + 40] = b"\xff" * 40
    file.write_bytes(data)
    words, bag = read_words(folder)
    lost = bag.lost["messages lost: in a damaged chunk"]
    assert words == sorted(words) and 0 < lost <= 11 and len(words) == 60 - lost and {0, 59} <= set(words)


def test_killed_recorder_leaves_all_but_the_last_messages(tmp_path: Path) -> None:
    folder = write_words(tmp_path / "bag")
    (folder / "metadata.yaml").unlink()
    file = file_of(folder)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    words, bag = read_words(folder)
    assert words == list(range(len(words))) and 28 <= len(words) <= 30  # of the last chunk what is there
    assert bag.lost["messages lost: the recording is cut off"] == 1
    assert bag.counts["/words"] == len(words)


def test_message_that_is_none_of_its_type_is_told(tmp_path: Path) -> None:
    folder = write_words(tmp_path / "bag", count=3, size=30)
    file = file_of(folder)
    file.write_bytes(file.read_bytes().replace(b"001001", b"\xff\xfe1001"))
    with Bag(folder) as bag:
        first, second, third = bag.messages({"/words"})
        assert bag.decode(first).data[:3] == "000" and bag.decode(third).data[:3] == "002"
        with pytest.raises(DamagedMessageError, match="a message of /words is damaged.*utf-8"):
            bag.decode(second)


def test_damaged_pictures_are_skipped_and_counted(
    tmp_path: Path, observation: Callable[..., Observation]
) -> None:  # fmt: skip
    views = [observation(seed=i, stamp_ns=10**9 + i * 50_000_000) for i in range(4)]
    write_bag(tmp_path / "bag", [PUSH, *views])
    file = file_of(tmp_path / "bag")
    data = file.read_bytes()
    frame = b"camera_color_optical_frame"
    at = [i for i in range(len(data)) if data.startswith(frame, i)]
    spoilt = bytearray(data)
    spoilt[at[2]] = 0xFF  # camera info, depth and image in turn: the first image
    file.write_bytes(spoilt)
    with Bag(tmp_path / "bag") as bag:
        events = BagFrames(bag, BagSetup(base_from_camera=camera_pose()))
        stamps = [event.observation.stamp_ns for event in events if isinstance(event, BagFrame)]
    assert stamps == [view.stamp_ns for view in views[1:]]
    assert events.drops == {"/simulator/image: damaged": 1}
    assert "1 of 4 not used: a message of /simulator/image is damaged" in events.unused.sentence(events.images)


def test_schema_that_cannot_be_read_matters_to_its_own_topic_alone(tmp_path: Path) -> None:
    folder = write_words(tmp_path / "bag", count=3, plugin=StoragePlugin.SQLITE3, size=30)
    with sqlite3.connect(file_of(folder)) as database:
        database.execute("UPDATE topics SET type = 'odd/srv/Call_Event' WHERE name = '/number'")
        database.execute(
            "UPDATE message_definitions SET topic_type = 'odd/srv/Call_Event', encoded_message_definition = '== ?? [' "
            "WHERE topic_type = ?", (NUMBER,)
        )  # fmt: skip
    database.close()
    assert read_words(folder)[0] == [0, 1, 2]
    with Bag(folder) as bag:
        message = next(bag.messages({"/number"}))
        with pytest.raises(ValueError, match="/number in .* has type odd/srv/Call_Event, whose definition is not in"):
            bag.decode(message)


def test_other_encodings_of_an_mcap_matter_to_their_own_topic_alone(tmp_path: Path) -> None:
    folder = write_words(tmp_path / "bag", count=3, size=30)
    file = file_of(folder)
    number = b"\x07\x00\x00\x00/number\x03\x00\x00\x00"
    assert number + b"cdr" in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(number + b"cdr", number + b"\xffsn"))
    words, bag = read_words(folder)
    assert words == [0, 1, 2] and bag.types == {"/words": TEXT, "/number": f"{NUMBER} (\ufffdsn)"}


def test_quality_of_service_is_not_read(tmp_path: Path) -> None:
    folder = write_words(tmp_path / "bag", count=3, size=30)
    listed = folder / "metadata.yaml"
    text = listed.read_text()
    assert "offered_qos_profiles: []" in text
    listed.write_text(text.replace("offered_qos_profiles: []", "offered_qos_profiles: [{deadline: 0, lifespan: ''}]"))
    assert read_words(folder)[0] == [0, 1, 2]


def test_topic_of_two_types_is_told_where_it_is_needed(tmp_path: Path, observation: Callable[..., Observation]) -> None:
    folder = write_words(tmp_path / "bag", count=3, size=30, more=(("/words", NUMBER),))
    with Bag(folder) as bag:
        assert bag.types == {"/words": f"{NUMBER} and {TEXT}", "/number": NUMBER} and bag.counts["/words"] == 4
        words = bag.types["/words"]
    write_bag(tmp_path / "good", [PUSH, observation(stamp_ns=10**9)])
    with Bag(tmp_path / "good") as bag:
        BagSetup().resolve(bag)
        bag.types["/policy/instruction"] = words
        with pytest.raises(
            ValueError, match=r"/policy/instruction in .* has type .*Float64 and std_msgs.*--remap instr"
        ):
            BagSetup().resolve(bag)


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_file_alone_folder_of_any_name_and_folder_without_metadata_are_bags(
    tmp_path: Path, plugin: StoragePlugin
) -> None:
    folder = write_words(tmp_path / "made", count=3, size=30, plugin=plugin)
    assert read_words(file_of(folder))[0] == [0, 1, 2]
    for name in ("x.bag", "50%20of?all#"):
        assert read_words(shutil.copytree(folder, tmp_path / name))[0] == [0, 1, 2]
    listed = folder / "metadata.yaml"
    text = listed.read_text()
    for other in (text.replace(file_of(folder).name, "renamed"), "{unbalanced", ""):
        listed.write_text(other)
        assert read_words(folder)[0] == [0, 1, 2]
    listed.write_text(text.replace("relative_file_paths:", "relative_file_paths:\n  - lost.mcap"))
    with pytest.raises(ValueError, match="lost.mcap of its metadata.yaml is missing.*`ros2 bag reindex`"):
        Bag(folder)
    listed.unlink()
    assert read_words(folder)[0] == [0, 1, 2]


def test_files_of_a_folder_without_metadata_are_read_in_the_order_of_time(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    folder.mkdir()
    for name, count, start_ns in (("bag_2", 2, 10**9), ("bag_10", 3, 2 * 10**9)):
        made = write_words(tmp_path / name, count=count, size=30, start_ns=start_ns)
        shutil.move(file_of(made), folder / f"{name}.mcap")
    assert read_words(folder)[0] == [0, 1, 0, 1, 2]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("x.bag", b"#ROSBAG V2.0\n", "is a bag of ROS 1: convert it with `rosbags-convert --src"),
        ("x.mcap", b"version https://git-lfs.github.com/spec/v1\noid", "pointer of git-lfs.*`git lfs pull`"),
        ("x.db3", b"", "not a readable bag: it is empty"),
        ("x.mcap", b"\x89MCAP0\r\n" + b"\0" * 50, "no channel of it can be read: try `mcap recover`"),
        ("x.db3", b"SQLite format 3\0" + b"\1" * 50, "no bag can be read from the database.*`ros2 bag reindex`"),
        ("x.mcap.zstd", ZSTD + b"\xff" * 50, "not a readable bag"),
        ("x.txt", b"hello", "begins with b'hello'"),
    ],
)
def test_what_is_no_bag_ends_in_one_line_that_says_what_to_do(
    tmp_path: Path, name: str, data: bytes, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(ValueError, match=says) as error:
        Bag(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)
    out = str(tmp_path / "out")
    for command in (["replay", str(file)], ["analyze", str(file)], ["train", "--bag", str(file)]):
        pose = ["--extrinsics", *["0", "0", "0", "0", "0", "0", "1"]]
        assert main([*command, *pose, "--out", out]) == 2
        assert str(file) in capsys.readouterr().err.replace("\n", "")
