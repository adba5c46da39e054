"""Messages that do not hold together: each is refused with one warning, and one line says when it is over."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from sensor_msgs.msg import PointField

from ...node.ros_messages import ENCODER
from .matrix import MORE, Report, fault, goes_on, recovers, says, stops
from .session import Session

ROW = "wrong encoding, bad step or length, missing fields, big-endian"
OTHER = "picture not rectified, camera info of another camera, an arm's joints for the gripper"
NOTICE_S = 3.0  # the node says that all is well once nothing was refused for two seconds


def _refused(
    name: str, streams: str, text: str, spoil: Callable[[Any], None], setup: str = "depth", row: str = ROW
) -> None:
    """streams: one, or several with spaces between them. text: in the refusal. spoil: changes a good message."""
    expected = "refused and counted, one warning that says why, the arm stops; one recovery notice"

    @fault(name, row, expected, setup, recovers=False)
    def inject(session: Session, report: Report) -> None:
        peer = session.peer
        send = {}
        for stream in streams.split():
            bad = send[stream.replace("/", "_")] = peer.altered(stream)
            spoil(bad)
        before, lines = peer.dropped()["malformed"], len(session.log_lines())
        stops(session, report, **send)
        says(session, report, text, "WARN", **send)
        session.drive(lambda: peer.dropped()["malformed"] > before + 3, **send)
        refused = peer.dropped()["malformed"] - before
        report.must(refused > 3, "counted")
        recovers(session, report)
        warnings, notes = _notices(session, report, lines, NOTICE_S)
        report.saw(f"{refused} refused, {warnings} warning and {notes} recovery notice in the log")


def _notices(session: Session, report: Report, first: int, timeout_s: float) -> tuple[int, int]:
    """How many lines of the node's log, from the ``first`` on, warn and tell of the recovery; each must come once."""

    def count(text: str) -> int:
        return sum(text in line for line in session.log_lines()[first:])

    session.drive(lambda: count("running") > 0, timeout_s)
    warnings, notes = count("message refused"), count("running")
    report.must(warnings == 1 and notes == 1, "one warning and one recovery notice")
    return warnings, notes


def _set(**fields: Any) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        for name, value in fields.items():
            setattr(message, name, value)

    return change


def _cut(message: Any) -> None:
    message.data = message.data[: len(message.data) // 2]


def _frame(message: Any) -> None:
    message.header.frame_id = "elsewhere"


def _nan_pose(message: Any) -> None:
    message.pose.position.y = float("nan")


_refused("wrong image encoding", "image", "8UC3", _set(encoding="8UC3"))
_refused("wrong depth encoding", "depth", "rgb8", _set(encoding="rgb8"))
_refused("bad step", "image", "step 7", _set(step=7))
_refused("bad length", "image", "bytes", _cut)
_refused("image without size", "image", "size 0 x", _set(width=0))
_refused("depth in an unknown frame", "depth", "'elsewhere'", _frame)
_refused("camera info without calibration", "camera_info", "not calibrated", _set(k=[0.0] * 9, p=[0.0] * 12))
_refused("camera info of another shape", "camera_info", "another shape", _set(width=120))
_refused("NaN in the pose", "ee_pose", "not finite", _nan_pose)
_refused("pose in an unknown frame", "ee_pose", "'elsewhere'", _frame)
_refused("gripper without position", "gripper", "no position", _set(position=[]))
_refused("gripper out of range", "gripper", "scaled", _set(position=[85.0]))
_refused("cloud without z", "points", "z missing", lambda m: m.fields.pop(), "points")
_refused(
    "cloud of whole numbers", "points", "floats expected",
    lambda m: setattr(m.fields[0], "datatype", PointField.INT32), "points",
)  # fmt: skip
_refused("bad point step", "points", "point_step 4", _set(point_step=4), "points")
_refused("bad cloud length", "points", "bytes", _cut, "points")
_refused("cloud in an unknown frame", "points", "'elsewhere'", _frame, "points")
_refused("broken PNG", "image/compressed", "no readable", _cut, "points")
_refused("depth where colour is expected", "image/compressed", "which is depth", _set(format="16UC1; compressedDepth"),
         "points")  # fmt: skip

LENS = [0.45, -2.5, 8e-4, -3e-4, 1.45, 0.33, -2.3, 1.38]  # of an Azure Kinect
ARM = [*(f"joint{number}" for number in range(1, 8)), "finger_left", "finger_right"]
for name, streams, text, fields in (
    ("lens distortion", "camera_info", "image_proc", {"distortion_model": "rational_polynomial", "d": LENS}),
    ("joints of an arm for the gripper", "gripper", ", ".join(ARM), {"name": ARM, "position": [0.2] * len(ARM)}),
):
    _refused(name, streams, text, _set(**fields), row=OTHER)
_refused("camera info of another camera", "camera_info", "two cameras", _frame, row=OTHER)
_refused("image of another camera", "image", "colour image is in frame 'elsewhere'", _frame, row=OTHER)
_refused("image and camera info of another camera", "image camera_info", "set camera_frame", _frame, row=OTHER)


def _twice_as_long(message: Any) -> None:
    message.pose.orientation.w = 2.0


_refused("quaternion of length 2", "ee_pose", "(~/ee_pose) has a quaternion of length 2", _twice_as_long, "two views",
         MORE)  # fmt: skip


@fault("joint states without a joint", MORE, "passed over, the arm stops, ERROR names the joint; recovers", "two views")
def _(session: Session, report: Report) -> None:
    bad = session.peer.altered("joint_states")
    bad.name, bad.position = bad.name[:3] + bad.name[4:], bad.position[:3] + bad.position[4:]
    stops(session, report, joint_states=bad)
    says(session, report, "/joint_states with joint 'joint4' (joint_names), only", "ERROR", joint_states=bad)


@fault(
    "half of the images in another encoding", ROW, "the good ones are used, WARN names the encoding; the arm goes on"
)
def _(session: Session, report: Report) -> None:
    images = itertools.cycle((session.peer.altered("image", encoding="8UC3"), session.peer.altered("image")))
    send = {"image": lambda: next(images)}
    says(session, report, "encoding '8UC3'", "WARN", **send)
    goes_on(session, report, 1.0, **send)


@fault("one malformed message", ROW, "refused, one warning and one recovery notice, the arm hardly notices")
def _(session: Session, report: Report) -> None:
    peer, lines = session.peer, len(session.log_lines())
    before = peer.dropped()["malformed"]
    for _ in range(20):  # best effort, newest wins: one of them may never be looked at
        peer.step(image=peer.altered("image", encoding="8UC3"))
        if session.drive(lambda: peer.dropped()["malformed"] > before, 0.5):
            break
    refused = peer.dropped()["malformed"] - before
    report.must(refused >= 1, "refused and counted")
    warnings, notes = _notices(session, report, lines, 2 * NOTICE_S)
    report.saw(f"{refused} refused, {warnings} warning, {notes} recovery notice")


def _height_of_points(session: Session, **send: Any) -> float:
    """Median height of the points that are kept, metres, of calls from now on."""
    peer = session.peer
    session.drive_for(0.3, **send)
    peer.clouds.clear()
    session.drive(lambda: len(peer.clouds) >= 3, **send)
    heights = [np.frombuffer(c.data, np.float32).reshape(-1, c.point_step // 4)[:, 2] for c in peer.clouds]
    return float(np.median(np.concatenate(heights))) if heights else float("nan")


def _big_endian(stream: str, kind: str, setup: str) -> None:
    @fault(f"big-endian {stream}", ROW, "read as it is meant: the same points, the arm goes on", setup, recovers=False)
    def inject(session: Session, report: Report) -> None:
        values = np.frombuffer(session.peer.messages[stream].data, kind)
        swapped = session.peer.altered(stream, data=ENCODER.data(values.byteswap().view(np.uint8)), is_bigendian=True)
        plain = _height_of_points(session)
        strange = _height_of_points(session, **{stream: swapped})
        report.saw(f"median height of the kept points {plain:.3f} m, big-endian {strange:.3f} m")
        report.must(abs(plain - strange) < 0.02, "the same points")
        goes_on(session, report, **{stream: swapped})


_big_endian("depth", "<u2", "depth")
_big_endian("points", "<f4", "points")
