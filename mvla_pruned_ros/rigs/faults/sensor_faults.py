"""Streams that fall silent, stamps that are wrong, depth without readings, cameras that change."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ...node.ros_messages import ENCODER
from ..synthetic_robot import synthetic_messages
from .matrix import Report, fault, goes_on, recovers, says, stops
from .peer import HEIGHT, TOPICS, WIDTH
from .session import Session

SILENT = "sensor silent, or one modality dead"
STAMPS = "stale, zero, future, duplicate, out-of-order stamps"
READINGS = "NaN/Inf points, all-invalid depth, empty cloud"
CAMERA = "resolution or intrinsics change"
LEAST_DROPPED = 1  # a duplicate is one for half a second only, then it is stale


def _silence(streams: tuple[str, ...], setup: str) -> None:
    name = "all streams" if len(streams) > 1 else streams[0].replace("/", " ")

    @fault(f"{name} silent", SILENT, "stops within the age limit, ERROR names the stream, recovers", setup)
    def inject(session: Session, report: Report) -> None:
        stops(session, report, without=streams)
        says(session, report, f"/{streams[0]}", "ERROR", without=streams)
        others = set(session.peer.streams) - set(streams) - {"camera_info"}
        for other in others:
            report.must(f"/{session.name}/{other}" not in session.peer.status.message, f"{other} is not blamed")
        recovers(session, report)


_silence(("image",), "depth")
_silence(("depth",), "depth")
_silence(("ee_pose",), "depth")
_silence(("gripper",), "depth")
_silence(("ee_pose", "gripper", "depth", "image", "camera_info"), "depth")
_silence(("points",), "points")
_silence(("image/compressed",), "points")


@fault("camera info silent", SILENT, "the last calibration stays in use, the arm goes on")
def _(session: Session, report: Report) -> None:
    goes_on(session, report, 1.2, without=("camera_info",))
    recovers(session, report)


def _bad_stamps(name: str, cause: str, stamp: Callable[[int, int], int], stops_arm: bool) -> None:
    """stamp: of a frame, from now and from the stamp of the first frame that was bad."""
    expected = "dropped and counted" + (", the arm stops" if stops_arm else ", newest wins") + ", recovers"

    @fault(f"{name} stamps", STAMPS, expected)
    def inject(session: Session, report: Report) -> None:
        peer, key = session.peer, f"image: {cause}"
        before, first = peer.dropped().get(key, 0), peer.now_ns()
        if stops_arm:
            last, end = peer.sent_at, time.monotonic() + 1.0
            session.drive(lambda: peer.dropped().get(key, 0) > before + LEAST_DROPPED and time.monotonic() > end, 6.0,
                          stamp=lambda: stamp(peer.now_ns(), first))  # fmt: skip
            at = peer.stopped_at()
            report.must(at is not None, "the arm stops")
            if at is not None:
                report.saw(f"stopped {(at - last) * 1e3:.0f} ms after the last good frame")
        else:
            count = 0
            while count < 60 and peer.dropped().get(key, 0) <= before + LEAST_DROPPED:
                count += 1
                peer.step()
                session.rest(lambda: False, 0.02)  # the good one is taken
                bad = stamp(peer.now_ns(), first)
                peer.send(stamp=lambda: bad)  # noqa: B023  (called at once)
            goes_on(session, report)
        dropped = peer.dropped().get(key, 0) - before
        report.saw(f"{dropped} dropped as {cause!r}")
        report.must(dropped > LEAST_DROPPED, "counted")
        recovers(session, report)


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
    recovers(session, report)


@fault("one stream 0.4 s late", STAMPS, "joined with the images of its time; the arm stops, ERROR says why; recovers")
def _(session: Session, report: Report) -> None:
    peer = session.peer

    def late() -> dict[str, int]:
        return {"depth": peer.now_ns() - 400_000_000}

    with session.fault(""):  # chunks of 0.2 s
        session.drive(lambda: False, 0.5, stamps=late)
        stops(session, report, stamps=late)
        peer.calls.clear()
        says(session, report, "come too late", "ERROR", stamps=late)
        ages = [c["age_ms"] for c in peer.calls]
        if ages:
            report.saw(f"observations {min(ages):.0f} to {max(ages):.0f} ms old")
        report.must(ages and min(ages) > 300, "calls with images of 0.4 s ago")
    recovers(session, report)


# --- depth and clouds without readings


def _depth(session: Session, change: Callable[[np.ndarray], None]) -> Any:
    depth = np.frombuffer(session.peer.messages["depth"].data, np.uint16).copy()
    change(depth)
    return session.peer.altered("depth", data=ENCODER.data(depth))


def _cloud(session: Session, change: Callable[[np.ndarray], None]) -> Any:
    points = np.frombuffer(session.peer.messages["points"].data, np.float32).copy().reshape(-1, 3)
    change(points)
    return session.peer.altered("points", data=ENCODER.data(points))


@fault("part of the depth invalid", READINGS, "masked, the arm goes on")
def _(session: Session, report: Report) -> None:
    goes_on(session, report, depth=_depth(session, lambda d: d.__setitem__(slice(None, None, 2), 0)))


@fault("all depth invalid", READINGS, "not ready, the arm stops, recovers")
def _(session: Session, report: Report) -> None:
    empty = _depth(session, lambda d: d.fill(0))
    stops(session, report, depth=empty)
    says(session, report, "points in the workspace", "WARN", depth=empty)
    recovers(session, report)


@fault("depth of NaN and Inf", READINGS, "not ready, the arm stops, recovers")
def _(session: Session, report: Report) -> None:
    values = np.where(np.arange(WIDTH * HEIGHT) % 2, np.float32(np.nan), np.float32(np.inf))
    wild = session.peer.altered("depth", encoding="32FC1", step=4 * WIDTH, data=ENCODER.data(values))
    stops(session, report, depth=wild)
    says(session, report, "points in the workspace", "WARN", depth=wild)
    recovers(session, report)


@fault("NaN and Inf among the points", READINGS, "masked, the arm goes on", "points")
def _(session: Session, report: Report) -> None:
    def spoil(points: np.ndarray) -> None:
        points[::3] = np.nan
        points[1::3, 2] = np.inf

    goes_on(session, report, points=_cloud(session, spoil))


@fault("all points NaN", READINGS, "not ready, the arm stops, recovers", "points")
def _(session: Session, report: Report) -> None:
    nothing = _cloud(session, lambda p: p.fill(np.nan))
    stops(session, report, points=nothing)
    says(session, report, "points in the workspace", "WARN", points=nothing)
    recovers(session, report)


@fault("empty cloud", READINGS, "not ready, the arm stops, recovers", "points")
def _(session: Session, report: Report) -> None:
    nothing = session.peer.altered("points", width=0, row_step=0, data=ENCODER.data(np.empty(0, np.uint8)))
    stops(session, report, points=nothing)
    says(session, report, "points in the workspace", "WARN", points=nothing)
    recovers(session, report)


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
    recovers(session, report)


@fault("intrinsics change", CAMERA, "pruning history flushed, the arm goes on")
def _(session: Session, report: Report) -> None:
    info = session.peer.altered("camera_info")
    info.k[4] *= 1.1
    since = session.peer.now_ns()
    goes_on(session, report, camera_info=info)
    _first_call_is_full(session, report, since)
    recovers(session, report)
