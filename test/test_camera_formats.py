"""Colour images as camera sensors deliver them: each format against values worked out by hand or a known picture."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mvla_pruned_ros.messages.camera_formats import BAYER, CAMERA_ENCODINGS, DEEP, YUV420, YUV422
from mvla_pruned_ros.messages.decode import COLOUR_ENCODINGS, ConversionError, image_to_rgb

RGB = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "skin": (224, 172, 105), "grey": (90, 90, 90)}
PATTERNS = {"bayer_rggb": "RGGB", "bayer_bggr": "BGGR", "bayer_gbrg": "GBRG", "bayer_grbg": "GRBG"}


@pytest.fixture
def opencv() -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")


def image(
    data: np.ndarray, encoding: str, width: int, height: int, padding: int = 0, big_endian: bool = False
) -> object:
    """data: (rows, bytes) uint8, behind each of which come ``padding`` bytes of 199."""
    rows = np.pad(data, ((0, 0), (0, padding)), constant_values=199)
    return SimpleNamespace(
        encoding=encoding, width=width, height=height, step=rows.shape[1], is_bigendian=int(big_endian),
        data=rows.ravel(),
    )  # fmt: skip


def yuv(rgb: np.ndarray) -> np.ndarray:
    """(..., 3) Y, U, V of 8 bits by ITU-R BT.601: Y from 16 to 235, U and V from 16 to 240."""
    r, g, b = np.moveaxis(np.asarray(rgb, float) / 255, -1, 0)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    values = np.stack([16 + 219 * y, 128 + 224 * (b - y) / 1.772, 128 + 224 * (r - y) / 1.402], -1)
    return np.rint(values).astype(np.uint8)


def ramp(height: int = 6, width: int = 16) -> np.ndarray:
    """Colours of two by two pixels each: nothing is lost in 4:2:0."""
    small = np.random.default_rng(3).integers(0, 256, (height // 2, width // 2, 3))
    return small.repeat(2, 0).repeat(2, 1).astype(np.uint8)


def packed(rgb: np.ndarray, order: str) -> np.ndarray:
    """(H, 2 W) bytes of YUV 4:2:2."""
    y, u, v = np.moveaxis(yuv(rgb), -1, 0)
    parts = {
        "UYVY": (u[:, ::2], y[:, ::2], v[:, ::2], y[:, 1::2]),
        "YUYV": (y[:, ::2], u[:, ::2], y[:, 1::2], v[:, ::2]),
    }
    return np.stack(parts[order], -1).reshape(len(rgb), -1)


def planes(rgb: np.ndarray, order: str) -> np.ndarray:
    """(3/2 H, W) bytes of YUV 4:2:0: Y, then U and V (or V and U) side by side."""
    y, u, v = np.moveaxis(yuv(rgb), -1, 0)
    pair = (u, v) if order == "NV12" else (v, u)
    below = np.stack([c[::2, ::2] for c in pair], -1).reshape(len(rgb) // 2, -1)
    return np.concatenate([y, below])


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", YUV422)
def test_colour_ramp_of_yuv_422_comes_back(encoding: str, padding: int, opencv: None) -> None:
    sent = ramp()
    order = {"yuv422": "UYVY", "uyvy": "UYVY", "yuv422_yuy2": "YUYV", "yuyv": "YUYV"}[encoding]
    got = image_to_rgb(image(packed(sent, order), encoding, 16, 6, padding))  # type: ignore[arg-type]
    assert got.shape == (6, 16, 3) and got.dtype == np.uint8 and got.flags.c_contiguous
    assert np.abs(got.astype(int) - sent).max() <= 3


def test_order_of_yuv_422_is_that_of_its_name(opencv: None) -> None:
    """One read as the other is not a little off, but another picture."""
    sent, (uyvy, yuyv) = ramp(), (packed(ramp(), order) for order in ("UYVY", "YUYV"))
    for data, encoding in ((uyvy, "yuv422_yuy2"), (yuyv, "yuv422")):
        wrong = image_to_rgb(image(data, encoding, 16, 6))
        assert np.abs(wrong.astype(int) - sent).mean() > 30


def test_four_bytes_of_yuyv_are_two_pixels_worked_out_by_hand(opencv: None) -> None:
    """Y 81, U 90, V 240 is red at full strength; Y 235 beside it is brighter, with the same hue."""
    ((left, right),) = image_to_rgb(image(np.uint8([[81, 90, 235, 240]]), "yuv422_yuy2", 2, 1))
    assert np.abs(left.astype(int) - [254, 0, 0]).max() <= 2 and right[0] == 255 and right[1] > 100


@pytest.mark.parametrize("padding", [0, 16])
@pytest.mark.parametrize("encoding", YUV420)
def test_colour_ramp_of_yuv_420_comes_back_and_u_and_v_are_not_mixed_up(
    encoding: str, padding: int, opencv: None
) -> None:
    sent = ramp()
    got = image_to_rgb(image(planes(sent, YUV420[encoding]), encoding, 16, 6, padding))
    assert got.shape == (6, 16, 3) and np.abs(got.astype(int) - sent).max() <= 3
    other = image_to_rgb(image(planes(sent, "NV21" if encoding == "nv12" else "NV12"), encoding, 16, 6))
    assert np.abs(other.astype(int) - sent).mean() > 20


def mosaic(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """(H, W): of each pixel the colour that its filter lets through; pattern: first row, then second."""
    channel = np.array(["RGB".index(c) for c in pattern]).reshape(2, 2)
    rows, columns = np.indices(rgb.shape[:2])
    return np.take_along_axis(rgb, channel[rows % 2, columns % 2][..., None], -1)[..., 0]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", BAYER)
def test_bayer_picture_of_one_colour_and_of_two_halves_keeps_them(pattern: str, bits: int, opencv: None) -> None:
    for colour in RGB.values():
        picture = np.full((8, 12, 3), colour, np.uint8)
        picture[:, 6:] = picture[0, 0, ::-1]
        sent = mosaic(picture, PATTERNS[pattern])
        for padding in (0, 4):
            for big_endian in (False, True) if bits == 16 else (False,):
                data = (sent.astype(np.uint16) * 257 if bits == 16 else sent).astype(
                    ">u2" if big_endian else f"<u{bits // 8}"
                )
                raw = np.ascontiguousarray(data).view(np.uint8).reshape(8, -1)
                got = image_to_rgb(image(raw, f"{pattern}{bits}", 12, 8, padding, big_endian))
                assert got.shape == (8, 12, 3)
                np.testing.assert_array_equal(got[:, :5], picture[:, :5])
                np.testing.assert_array_equal(got[:, 7:], picture[:, 7:])


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding", DEEP)
def test_sixteen_bits_become_the_upper_eight_in_the_order_of_the_name(encoding: str, big_endian: bool) -> None:
    channels = DEEP[encoding][0]
    values = np.array([0, 255, 256, 32768, 65279, 65535, 4660, 513], np.uint16)[np.arange(6 * channels) % 8]
    sent = values.reshape(2, 3, channels)
    raw = sent.astype(">u2" if big_endian else "<u2").view(np.uint8).reshape(2, -1)
    got = image_to_rgb(image(raw, encoding, 3, 2, 5, big_endian))
    upper = sent // 256
    order = {"mono16": [0, 0, 0], "rgb16": [0, 1, 2], "rgba16": [0, 1, 2], "bgr16": [2, 1, 0], "bgra16": [2, 1, 0]}
    assert got.dtype == np.uint8 and got.flags.c_contiguous
    np.testing.assert_array_equal(got, upper[..., order[encoding]])


@pytest.mark.parametrize(
    ("encoding", "width", "height", "says"),
    [
        ("yuv422", 5, 4, "odd width 5.*or rgb8"),
        ("yuv422_yuy2", 7, 4, "odd width 7"),
        ("nv12", 6, 3, "odd height 3"),
        ("nv21", 5, 3, "odd width 5 and height 3"),
        ("bayer_rggb8", 2, 8, "2 x 8: at least 4"),
        ("mono16", 0, 8, "size 0 x 8"),
    ],
)
def test_size_that_a_format_cannot_have_is_refused(encoding: str, width: int, height: int, says: str) -> None:
    with pytest.raises(ConversionError, match=says):
        image_to_rgb(image(np.zeros((height, 2 * width + 2), np.uint8), encoding, width, height))


@pytest.mark.parametrize(
    ("encoding", "row"), [("yuyv", 16), ("nv12", 8), ("bayer_gbrg8", 8), ("rgb16", 48), ("mono16", 16)]
)
def test_short_rows_and_short_data_are_refused(encoding: str, row: int) -> None:
    rows = 6 if encoding == "nv12" else 4
    with pytest.raises(ConversionError, match=f"{encoding} has step {row - 1}, a row of 8 pixels takes {row} bytes"):
        image_to_rgb(image(np.zeros((rows, row - 1), np.uint8), encoding, 8, 4))
    message = image(np.zeros((rows, row), np.uint8), encoding, 8, 4)
    message.data = message.data[:-1]  # type: ignore[attr-defined]
    with pytest.raises(ConversionError, match=f"{encoding} has {rows * row - 1} bytes, {rows} rows of step {row} make"):
        image_to_rgb(message)


def test_without_opencv_the_message_names_it_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(
        ConversionError, match="'yuyv', which is read by OpenCV.*python3-opencv.*or let the driver send rgb8"
    ):
        image_to_rgb(image(np.zeros((4, 16), np.uint8), "yuyv", 8, 4))
    assert image_to_rgb(image(np.zeros((4, 16), np.uint8), "mono16", 8, 4)).shape == (4, 8, 3)


def test_every_format_is_among_those_that_a_refusal_names() -> None:
    assert set(CAMERA_ENCODINGS) < set(COLOUR_ENCODINGS) and len(CAMERA_ENCODINGS) == 19
    with pytest.raises(ConversionError, match=r"'8UC3': rgb8, bgr8, .*yuv422_yuy2.*nv12.*bayer_rggb8.*can be used"):
        image_to_rgb(image(np.zeros((4, 24), np.uint8), "8UC3", 8, 4))


def test_every_small_size_becomes_a_picture_of_that_size_or_is_refused(opencv: None) -> None:
    """And never anything else, with whatever library reads it."""
    refused = set()
    for encoding in CAMERA_ENCODINGS:
        for width in range(1, 10):
            for height in range(1, 10):
                row = width * {"8": 1, "6": 2}.get(encoding[-1], 1)
                row = 2 * width if encoding in YUV422 else width * 2 * DEEP[encoding][0] if encoding in DEEP else row
                rows = height * 3 // 2 if encoding in YUV420 else height
                message = image(np.full((rows, row), 90, np.uint8), encoding, width, height, padding=3)
                try:
                    got = image_to_rgb(message)
                except ConversionError:
                    refused.add((encoding, width, height))
                    continue
                assert got.shape == (height, width, 3) and got.dtype == np.uint8 and got.flags.c_contiguous
    assert {e for e, *_ in refused} == {*YUV422, *YUV420, *(e for e in CAMERA_ENCODINGS if e.startswith("bayer"))}
    assert not any(w >= 4 and h >= 4 for e, w, h in refused if e.startswith("bayer"))
    assert not any(w % 2 == 0 and h % 2 == 0 for e, w, h in refused if not e.startswith("bayer"))
