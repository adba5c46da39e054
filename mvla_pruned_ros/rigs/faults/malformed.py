"""Messages that are wrong in random ways: sizes, encodings, fields, stamps, frames, bytes and numbers.

Choices are made through ``random.Random``, so that a seed, or a property test, decides them.
"""

from __future__ import annotations

import copy
import math
from array import array
from collections.abc import Callable
from random import Random
from typing import Any

from sensor_msgs.msg import PointField

from ...messages.layouts import LAYOUTS

STREAMS = (
    "image", "image/compressed", "depth", "points", "camera_info", "ee_pose", "gripper", "instruction",
)  # fmt: skip
SIZES = (0, 1, 2, 3, 7, 119, 121, 160, 161, 65_535, 2**31 - 1, 2**31, 2**32 - 1)
NUMBERS = (0.0, -0.0, -1.0, 1.0, 5e-324, 1e-30, 1e30, 3.4e38, 1.7e308, -1.7e308, math.inf, -math.inf, math.nan)
WORDS = (
    "", " ", "base", "camera_color_optical_frame", "elsewhere", "rgb8", "16UC1", "32FC1", "64FC1", "yuv422", "mono16",
    "bayer_rggb8", "jpeg", "png", "compressedDepth", "x" * 5000, "\u00e9\u4e2d\U0001f916", "../../etc", "{}", "%s%n",
    "/base", "base ", "BASE", "left_optical_frame",
)  # fmt: skip
SECONDS = (0, -1, 1, -(2**31), 2**31 - 1)
SHIFTS = (-120, -37, -9, -1, 1, 9, 37, 3600)  # seconds, of a clock that is not in step
DISTORTIONS = (
    "",
    "plumb_bob",
    "rational_polynomial",
    "equidistant",
    "fisheye",
    "inverse_unified",
    "PLUMB_BOB",
    "\u00e9",
)
JOINTS = ("", "gripper", "finger_left", "finger_right", "joint1", "x" * 5000, "\u00e9\u4e2d\U0001f916", "%s%n")


def malformed(random: Random, stream: str, message: Any) -> Any:
    """A copy of a good message with one to three things wrong; stream: of ``STREAMS``.

    What is wrong may happen to make no difference: a message of this kind has to be survived, not to be refused.
    """
    message = copy.deepcopy(message)
    changes = CHANGES[stream]
    for _ in range(random.randint(1, 3)):
        random.choice(changes)(random, message)
    return message


def _stamp(random: Random, message: Any) -> None:
    """Of another time altogether, of a clock that is not in step, or in whole seconds."""
    stamp, way = message.header.stamp, random.randint(0, 3)
    if way == 0:
        stamp.sec = max(-(2**31), stamp.sec + random.choice(SHIFTS))
    elif way == 1:
        stamp.nanosec = 0
    else:
        stamp.sec = random.choice(SECONDS)
        stamp.nanosec = random.choice((0, 1, 999_999_999, 1_000_000_000, 2**32 - 1))


def _frame(random: Random, message: Any) -> None:
    message.header.frame_id = random.choice(WORDS)


def _data(random: Random, message: Any) -> None:
    """Cut, lengthened, emptied, or with other bytes in it."""
    data, way = message.data, random.randint(0, 4)
    if way == 0:
        data = data[: random.randint(0, max(0, len(data) - 1))]
    elif way == 1:
        data = data + array("B", bytes(random.choice((1, 3, 4096))))
    elif way == 2:
        data = array("B")
    elif len(data):
        data = data[:]
        for _ in range(random.randint(1, 200)):
            data[random.randint(0, len(data) - 1)] = random.randint(0, 255)
        if way == 4:  # a run of one byte: NaN, huge and tiny numbers
            begin = random.randint(0, len(data) - 1)
            run = data[begin : begin + 4096]
            data[begin : begin + 4096] = array("B", bytes([random.choice((0, 127, 128, 255))]) * len(run))
    message.data = data


def _sizes(*names: str) -> Callable[[Random, Any], None]:
    def change(random: Random, message: Any) -> None:
        setattr(message, random.choice(names), random.choice(SIZES))

    return change


def _encoding(random: Random, message: Any) -> None:
    message.encoding = random.choice((*WORDS, *LAYOUTS))


def _byte_order(random: Random, message: Any) -> None:
    message.is_bigendian = type(message.is_bigendian)(random.choice((0, 1, 255)))


def _format(random: Random, message: Any) -> None:
    message.format = random.choice((*WORDS, "rgb8; jpeg compressed bgr8", "16UC1; compressedDepth png"))


def _fields(random: Random, message: Any) -> None:
    fields, way = message.fields, random.randint(0, 6)
    if not fields or way == 0:
        message.fields = [PointField(name=random.choice((*"xyz", "rgb", "")), offset=0, datatype=7, count=1)] * 3
        return
    field = random.choice(fields)
    if way == 1:
        message.fields = [f for f in fields if f is not field]
    elif way == 2:
        field.datatype = random.choice((0, 1, 2, 5, 6, 8, 9, 255))
    elif way == 3:
        field.offset = random.choice(SIZES)
    elif way == 4:
        field.count = random.choice(SIZES)
    elif way == 5:
        field.count = 0
    else:  # a name twice: at the same place, or in the place of another
        twin = copy.copy(random.choice(fields))
        twin.name = field.name
        message.fields = [*fields, twin] if random.random() < 0.5 else [f if f is field else twin for f in fields]


def _intrinsics(random: Random, message: Any) -> None:
    name = random.choice(("k", "p"))
    values = list(getattr(message, name))
    values[random.randint(0, len(values) - 1)] = random.choice(NUMBERS)
    setattr(message, name, values)


def _distortion(random: Random, message: Any) -> None:
    """Coefficients that a lens has, or none; the model may be another."""
    count = random.choice((0, 1, 4, 5, 8, 12, 14, 100))
    small = random.random() < 0.5
    message.d = [random.uniform(-0.5, 0.5) if small else random.choice(NUMBERS) for _ in range(count)]
    message.distortion_model = random.choice(DISTORTIONS)


def _region(random: Random, message: Any) -> None:
    setattr(message.roi, random.choice(("width", "height", "x_offset", "y_offset")), random.choice(SIZES))


def _pose(random: Random, message: Any) -> None:
    part = random.choice((message.pose.position, message.pose.orientation))
    setattr(part, random.choice("xyz"), random.choice(NUMBERS))


def _positions(random: Random, message: Any) -> None:
    message.position = [random.choice((*NUMBERS, 0.5, 1.05)) for _ in range(random.choice((0, 1, 2, 50)))]


def _names(random: Random, message: Any) -> None:
    """None, several, one twice, more or fewer than there are positions."""
    message.name = [random.choice(JOINTS) for _ in range(random.choice((0, 1, 1, 2, 9, 200)))]
    if random.random() < 0.3:
        message.name = message.name * 2


def _words(random: Random, message: Any) -> None:
    good = message.data.split()
    message.data = " ".join(random.choice((*WORDS, *good)) for _ in range(random.choice((0, 1, 3, 8, 300))))


HEADER = (_stamp, _frame)
CHANGES: dict[str, tuple[Callable[[Random, Any], None], ...]] = {
    "image": (*HEADER, _data, _sizes("width", "height", "step"), _encoding, _byte_order),
    "depth": (*HEADER, _data, _sizes("width", "height", "step"), _encoding, _byte_order),
    "image/compressed": (*HEADER, _data, _data, _format),
    "points": (*HEADER, _data, _sizes("width", "height", "point_step", "row_step"), _fields, _byte_order),
    "camera_info": (
        *HEADER,
        _sizes("width", "height"),
        _intrinsics,
        _distortion,
        _region,
        _sizes("binning_x", "binning_y"),
    ),
    "ee_pose": (*HEADER, _pose),
    "gripper": (*HEADER, _positions, _names),
    "instruction": (_words,),
}
