"""Matching of messages by header time, without a graph."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from mvla_pruned_ros.observation.synchronizer import Synchronizer

MS = 1_000_000
TOLERANCE = 60 * MS


def message(stamp_ms: int, label: str = "") -> SimpleNamespace:
    stamp = SimpleNamespace(sec=stamp_ms // 1000, nanosec=stamp_ms % 1000 * MS)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp), label=label or str(stamp_ms))


def put(store: Synchronizer, name: str, stamp_ms: int) -> None:
    store.put(name, message(stamp_ms), stamp_ms * MS, 500 * MS)


@pytest.fixture
def store() -> Synchronizer:
    return Synchronizer({"image": "/image", "depth": "/depth", "camera_info": "/info"}, unstamped=("camera_info",))


def test_image_waits_for_the_depth_of_its_own_instant(store: Synchronizer) -> None:
    put(store, "camera_info", 1)
    put(store, "depth", 1000)
    put(store, "image", 1050)  # the depth of 1000 is within the tolerance, but that of 1050 is on its way
    assert store.wait(TOLERANCE, 0.005) is None
    put(store, "depth", 1050)
    matched = store.wait(TOLERANCE, 0.005)
    assert matched is not None and matched.stamp_ns == 1050 * MS
    assert matched.messages["depth"].label == "1050"


def test_after_the_tolerance_the_nearest_depth_is_taken(store: Synchronizer) -> None:
    put(store, "camera_info", 1)
    put(store, "depth", 1000)
    put(store, "image", 1020)
    start = time.monotonic()
    matched = store.wait(TOLERANCE, 1.0)
    assert matched is not None and matched.messages["depth"].label == "1000"
    assert 0.05 < time.monotonic() - start < 0.5


def matched_depth(store: Synchronizer) -> str | None:
    """Of the image that is matched now, without patience; None: it waits."""
    matched = store.wait(TOLERANCE, 0.002)
    return None if matched is None else matched.messages["depth"].label


def test_image_does_not_wait_for_a_slow_stream(store: Synchronizer) -> None:
    """Depth every 100 ms, images every 30: only one that is nearly due is waited for."""
    put(store, "camera_info", 1)
    for stamp in (945, 975):
        put(store, "image", stamp)
    for stamp in (800, 900, 1000):
        put(store, "depth", stamp)
    assert matched_depth(store) == "1000"  # the image of 975
    for stamp in (1005, 1035):  # both nearer to 1000 than to 1100
        put(store, "image", stamp)
        assert matched_depth(store) == "1000"
    put(store, "image", 1065)  # nearer to 1100, but by then the next image is there
    assert matched_depth(store) is None, "beyond the tolerance"
    put(store, "image", 1095)
    assert matched_depth(store) is None, "waits for that of 1100"
    put(store, "depth", 1100)
    assert matched_depth(store) == "1100"


def test_an_image_waits_for_a_message_that_is_overdue(store: Synchronizer) -> None:
    """Drivers of depth cameras deliver tens of milliseconds late."""
    put(store, "camera_info", 1)
    for stamp in (900, 950, 1000):
        put(store, "depth", stamp)
    put(store, "image", 1049)
    assert store.wait(TOLERANCE, 0.005) is None
    put(store, "depth", 1050)
    matched = store.wait(TOLERANCE, 0.005)
    assert matched is not None and matched.messages["depth"].label == "1050"


def test_depth_beyond_the_tolerance_never_matches(store: Synchronizer) -> None:
    put(store, "camera_info", 1)
    put(store, "depth", 1000)
    put(store, "image", 1100)
    assert store.wait(TOLERANCE, 0.1) is None


def test_newest_complete_set_wins_and_older_images_are_counted(store: Synchronizer) -> None:
    put(store, "camera_info", 1)
    for stamp in (1000, 1050, 1100):
        put(store, "image", stamp)
        put(store, "depth", stamp)
    matched = store.wait(TOLERANCE, 0.0)
    assert matched is not None and matched.stamp_ns == 1100 * MS
    assert store.drops["image: superseded or unmatched"] == 2
    assert store.wait(TOLERANCE, 0.0) is None, "a set is used once"


def test_what_an_image_lacks_is_named_with_the_distance(store: Synchronizer) -> None:
    assert store.unmatched_reason(TOLERANCE) is None, "there is no image"
    put(store, "image", 10_000)
    assert store.unmatched_reason(TOLERANCE) == "nothing on /depth, nothing on /info"
    for stamp in (700, 740):
        put(store, "depth", stamp)
    put(store, "camera_info", 1)
    assert store.unmatched_reason(TOLERANCE) == (
        "nearest /depth is 9.26 s away by its stamp, 60 ms are allowed (sync_tolerance_ms): are the clocks in step?"
    )
    put(store, "depth", 10_050)
    assert store.unmatched_reason(TOLERANCE) is None


@pytest.mark.parametrize(
    "stamp_ms, now_ms, cause",
    [(0, 1000, "zero stamp"), (1500, 1000, "stamp in the future"), (1000, 2000, "stale")],
)
def test_absurd_stamps_are_dropped_and_counted(store: Synchronizer, stamp_ms: int, now_ms: int, cause: str) -> None:
    store.put("depth", message(stamp_ms), now_ms * MS, 500 * MS)
    assert store.drops == {f"depth: {cause}": 1}


def test_duplicates_and_late_messages_are_dropped_and_counted(store: Synchronizer) -> None:
    for stamp in (1000, 1000, 950):
        put(store, "depth", stamp)
    assert store.drops == {"depth: duplicate": 1, "depth: out of order": 1}


def test_stream_whose_stamps_are_refused_is_told_from_one_that_is_silent() -> None:
    now = 100 * 10**9
    store = Synchronizer({"image": "/image", "ee_pose": "/arm/pose", "gripper": "/hand"}, clock=lambda: 1.0)
    message = SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(sec=100, nanosec=0)))
    assert store.put("image", message, now, 10**9)
    message.header.stamp.sec = 137
    assert not store.put("ee_pose", message, now, 10**9)
    words = store.silence(0.5)
    assert "/arm/pose (messages come, but are refused: stamp in the future, 37" in words
    assert words.endswith("/hand") and "/image" not in words


def joint_state(stamp_ms: int, *names: str) -> SimpleNamespace:
    one = message(stamp_ms)
    one.name = list(names)
    return one


def test_messages_without_the_joint_of_the_gripper_are_passed_over() -> None:
    """Nor do their stamps count: the arm's come at the same instants, and a little ahead."""
    store = Synchronizer({"image": "/image", "gripper": "/joint_states"}, joints={"gripper": ["finger"]})
    for stamp, names in ((1000, ["a", "b"]), (1000, ["finger"]), (1020, ["a"]), (1010, ["b", "finger"]), (1011, [])):
        taken = store.put("gripper", joint_state(stamp, *names), 1020 * MS, 500 * MS)
        assert taken == ("finger" in names)
    assert not store.drops
    put(store, "image", 1010)
    matched = store.wait(TOLERANCE, 0.2)
    assert matched is not None and matched.messages["gripper"].name == ["b", "finger"]


def test_joint_of_the_gripper_that_never_comes_is_told_with_the_names_that_do() -> None:
    now = [0.0]
    topics = {"image": "/image", "gripper": "/joint_states"}
    store = Synchronizer(topics, clock=lambda: now[0], joints={"gripper": ["finger"]})
    assert store.silence(0.5).endswith("/joint_states"), "nothing came at all"
    for names in (["a", "b"], ["c"], ["b", "c"]):
        store.put("gripper", joint_state(1000, *names), 1000 * MS, 500 * MS)
    store.put("image", message(1000), 1000 * MS, 500 * MS)
    says = "/joint_states with joint 'finger' (gripper_joint), only messages with these: a, b, c"
    assert store.silence(0.5) == says and store.unmatched_reason(TOLERANCE) == f"nothing on {says}"
    now[0] = 2.0
    assert store.silence(0.5) == "/image, /joint_states", "by now nothing comes"
    for i in range(1000):
        store.put("gripper", joint_state(1000, f"joint{i}"), 1000 * MS, 500 * MS)
    assert len(store.silence(0.5)) < 400
