"""Streams that fall silent, stamps that are wrong, depth without readings, cameras that change."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ...node.ros_messages import ENCODER
from .. import qos
from ..synthetic_robot import synthetic_messages
from .matrix import MORE, Report, fault, goes_on, says, stopped_after, stops
from .peer import HEIGHT, TOPICS, WIDTH, Peer
from .session import Session

SILENT = "sensor silent, or one modality dead"
STAMPS = "stale, zero, future, duplicate, out-of-order stamps"
ONCE = "camera info sent once, latched"
READINGS = "NaN/Inf points, all-invalid depth, empty cloud"
CAMERA = "resolution or intrinsics change"
LEAST_DROPPED = 1  # a duplicate is one for half a second only, then it is stale


def _silence(streams: tuple[str, ...], setup: str) -> None:
    name = "all streams" if len(streams) > 1 else streams[0].replace("/", " ")

    @fault(f"{name} silent", SILENT, "stops within the age limit, ERROR names the stream, recovers", setup)
    def inject(session: Session, report: Report) -> None:
        stops(session, report, without=streams)
        says(session, report, f"/{streams[0]}", "ERROR", without=streams)
        blamed = session.peer.status.message.replace(",", ":").split(":")
        for other in set(session.peer.streams) - set(streams) - {"camera_info"}:
            names = (word.split()[-1] for word in blamed if word.strip())
            report.must(f"/{session.name}/{other}" not in names, f"{other} is not blamed")


_silence(("image",), "depth")
_silence(("depth",), "depth")
_silence(("ee_pose",), "depth")
_silence(("gripper",), "depth")
_silence(("ee_pose", "gripper", "depth", "image", "camera_info"), "depth")
_silence(("points",), "points")
_silence(("image/compressed",), "points")
_silence(("image_1",), "two views")


@fault("camera info silent", SILENT, "the last calibration stays in use, the arm goes on")
def _(session: Session, report: Report) -> None:
    goes_on(session, report, 1.2, without=("camera_info",))


@fault("camera info sent once, then ~/reset", ONCE, "heard although the node was there before, kept over the reset")
def _(session: Session, report: Report) -> None:
    peer, node, topic = session.peer, session.graph.node, f"/{session.name}/camera_info"
    node.destroy_publisher(peer.out.pop("camera_info"))
    info = peer.altered("camera_info")
    info.k[4] = info.p[5] = 1.1 * info.k[4]
    latched = node.create_publisher(type(info), topic, qos.LATCHED)
    peer.calls.clear()
    latched.publish(info)
    try:
        heard = session.drive(lambda: any(call["image_kept"] == call["image_in"] for call in peer.calls))
        report.saw("pruning history forgotten for the other intrinsics" if heard else f"{len(peer.calls)} pruned calls")
        report.must(heard, "heard: a call keeps all tokens")
        session.reset()
        goes_on(session, report, 1.0)
    finally:
        node.destroy_publisher(latched)
        peer.disconnect()
        peer.connect()


def _bad_stamps(name: str, cause: str, stamp: Callable[[int, int], int], stops_arm: bool) -> None:
    """stamp: of a frame, from now and from the stamp of the first frame that was bad."""
    expected = "dropped and counted" + (", the arm stops" if stops_arm else ", newest wins") + ", recovers"

    @fault(f"{name} stamps", STAMPS, expected)
    def inject(session: Session, report: Report) -> None:
        peer, key = session.peer, f"image: {cause}"
        before, first = peer.dropped()[key], peer.now_ns()
        if stops_arm:
            last, end = peer.sent_at, time.monotonic() + 1.0
            session.drive(lambda: peer.dropped()[key] > before + LEAST_DROPPED and time.monotonic() > end, 6.0,
                          stamp=lambda: stamp(peer.now_ns(), first))  # fmt: skip
            after_s = stopped_after(session, report, last, "the last good frame")
            report.must(math.isfinite(after_s), "the arm stops")
        else:
            count = 0
            while count < 60 and peer.dropped()[key] <= before + LEAST_DROPPED:
                count += 1
                peer.step()
                session.graph.spin_for(0.02)  # the good one is taken
                bad = stamp(peer.now_ns(), first)
                peer.send(stamp=lambda: bad)  # noqa: B023  (called at once)
            goes_on(session, report)
        dropped = peer.dropped()[key] - before
        report.saw(f"{dropped} dropped as {cause!r}")
        report.must(dropped > LEAST_DROPPED, "counted")


S = 1_000_000_000
_bad_stamps("stale", "stale", lambda now, first: now - 10 * S, True)
_bad_stamps("zero", "zero stamp", lambda now, first: 0, True)
_bad_stamps("future", "stamp in the future", lambda now, first: now + 10 * S, True)
_bad_stamps("duplicate", "duplicate", lambda now, first: first, True)
_bad_stamps("out-of-order", "out of order", lambda now, first: now - 80_000_000, False)


@fault("skewed stamps", STAMPS, "depth is not joined with images of another time: the arm stops, ERROR; recovers")
def _(session: Session, report: Report) -> None:
    def skewed() -> dict[str, int]:
        return {"depth": session.peer.now_ns() - 50_000_000}  # half a frame

    session.set({"sync_tolerance_ms": 1.0})
    stops(session, report, stamps=skewed)
    says(session, report, "found its partners", "ERROR", stamps=skewed)
    session.set({"sync_tolerance_ms": 60.0})


@fault("one stream 0.4 s late", STAMPS, "joined with the images of its time; the arm stops, ERROR says why; recovers")
def _(session: Session, report: Report) -> None:
    peer = session.peer

    def late() -> dict[str, int]:
        return {"depth": peer.now_ns() - 400_000_000}

    with session.fault(""):  # chunks of 0.2 s
        session.drive_for(0.5, stamps=late)
        stops(session, report, stamps=late)
        peer.calls.clear()
        says(session, report, "come too late", "ERROR", stamps=late)
        ages = [c["age_ms"] for c in peer.calls]
        if ages:
            report.saw(f"observations {min(ages):.0f} to {max(ages):.0f} ms old")
        report.must(ages and min(ages) > 300, "calls with images of 0.4 s ago")


def _another_clock(name: str, behind: Callable[[int], int]) -> None:
    """behind: the stamp of a pose at a time."""

    @fault(name, STAMPS, "not joined with images of another time: the arm stops, ERROR names the stream; recovers")
    def inject(session: Session, report: Report) -> None:
        peer = session.peer

        def stamps() -> dict[str, int]:
            return {"ee_pose": behind(peer.now_ns())}

        session.set({"sync_tolerance_ms": 1.0})
        before = peer.dropped()
        stops(session, report, stamps=stamps)
        says(session, report, "/ee_pose", "ERROR", stamps=stamps)
        counted = {cause: number for cause, number in (peer.dropped() - before).items() if "ee_pose" in cause}
        report.saw(", ".join(f"{number} dropped as {cause!r}" for cause, number in counted.items()))
        report.must(counted, "counted")
        session.set({"sync_tolerance_ms": 60.0})


_another_clock("pose by a clock 9.3 s behind", lambda now: now - 9_300_000_000)
_another_clock("pose stamped in whole seconds", lambda now: now // S * S)


# --- views


@fault("a view at 10 Hz beside 30 Hz", MORE, "joined with the images next to it, the arm goes on", "two views")
def _(session: Session, report: Report) -> None:
    peer, frames, before = session.peer, itertools.count(), session.peer.frame_s

    def two_in_three() -> tuple[str, ...]:
        return ("image_1", "image_1_camera_info") if next(frames) % 3 else ()

    peer.frame_s = 1 / 30
    try:
        start = time.monotonic()
        goes_on(session, report, 1.5, without=two_in_three)
        report.saw(f"{len(peer.calls) / (time.monotonic() - start):.0f} calls a second")
    finally:
        peer.frame_s = before


# --- depth and clouds without readings


def _readings(name: str, stream: str, spoil: Callable[[Peer], Any], usable: bool) -> None:
    """stream: and setup, which have one name. spoil: makes the message that is sent on it. usable: some points are."""
    expected = "masked, the arm goes on" if usable else "not ready, the arm stops, recovers"

    @fault(name, READINGS, expected, stream, recovers=not usable)
    def inject(session: Session, report: Report) -> None:
        send = {stream: spoil(session.peer)}
        if usable:
            goes_on(session, report, **send)
        else:
            stops(session, report, **send)
            says(session, report, "points in the workspace", "WARN", **send)


def _changed(stream: str, change: Callable[[np.ndarray], None]) -> Callable[[Peer], Any]:
    """change: is given the values of a good message, (H W,) uint16 of a depth image or (N, 3) float32 of a cloud."""
    shape, dtype = ((-1,), np.uint16) if stream == "depth" else ((-1, 3), np.float32)

    def spoil(peer: Peer) -> Any:
        values = np.frombuffer(peer.messages[stream].data, dtype).copy().reshape(shape)
        change(values)
        return peer.altered(stream, data=ENCODER.data(values))

    return spoil


def _wild_depth(peer: Peer) -> Any:
    values = np.where(np.arange(WIDTH * HEIGHT) % 2, np.float32(np.nan), np.float32(np.inf))
    return peer.altered("depth", encoding="32FC1", step=4 * WIDTH, data=ENCODER.data(values))


def _empty_cloud(peer: Peer) -> Any:
    return peer.altered("points", width=0, row_step=0, data=ENCODER.data(np.empty(0, np.uint8)))


def _half_invalid(depth: np.ndarray) -> None:
    depth[::2] = 0


def _partly_wild(points: np.ndarray) -> None:
    points[::3] = np.nan
    points[1::3, 2] = np.inf


_readings("part of the depth invalid", "depth", _changed("depth", _half_invalid), usable=True)
_readings("all depth invalid", "depth", _changed("depth", lambda depth: depth.fill(0)), usable=False)
_readings("depth of NaN and Inf", "depth", _wild_depth, usable=False)
_readings("NaN and Inf among the points", "points", _changed("points", _partly_wild), usable=True)
_readings("all points NaN", "points", _changed("points", lambda points: points.fill(np.nan)), usable=False)
_readings("empty cloud", "points", _empty_cloud, usable=False)


# --- another camera


def _first_call_is_full(session: Session, report: Report, since_ns: int) -> None:
    calls = [c for c in session.peer.calls if c["stamp_ns"] >= since_ns]
    if not calls:
        report.must(False, "a call after the change")
        return
    tokens = [f"{c['image_kept'] + c['points_kept']} of {c['image_in'] + c['points_in']}" for c in calls[:2]]
    report.saw(f"tokens kept by the first calls after the change: {', then '.join(tokens)}")
    first = calls[0]
    report.must(first["image_kept"] == first["image_in"] and first["points_kept"] == first["points_in"],
                "pruning history forgotten: the first call keeps all tokens")  # fmt: skip


@fault("resolution changes", CAMERA, "pruning history flushed, the arm goes on")
def _(session: Session, report: Report) -> None:
    peer, before = session.peer, session.peer.messages
    peer.messages = {**before, **synthetic_messages(TOPICS, 96, 72)}
    since = peer.now_ns()
    try:
        goes_on(session, report)
        _first_call_is_full(session, report, since)
    finally:
        peer.messages = before


@fault("intrinsics change", CAMERA, "pruning history flushed, the arm goes on")
def _(session: Session, report: Report) -> None:
    info = session.peer.altered("camera_info")
    info.k[4] *= 1.1
    since = session.peer.now_ns()
    goes_on(session, report, camera_info=info)
    _first_call_is_full(session, report, since)
