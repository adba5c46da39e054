"""Depth of the transport compressedDepth, from bytes that an encoder of this test's own wrote."""

from __future__ import annotations

import io
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from depth_codecs import compressed_metres, compressed_millimetres, png16, rvl
from kinect import needs_kinect, views
from PIL import Image as Picture

from mvla_pruned_ros.messages.decode import ConversionError, Readers, depth_to_metres

HEADER = struct.pack("<iff", 0, 0.0, 0.0)
CODECS = ("png", "rvl")


def message(data: bytes, form: str = "16UC1; compressedDepth png") -> SimpleNamespace:
    return SimpleNamespace(format=form, data=data)


def ragged_depth(seed: int = 0) -> np.ndarray:
    """(60, 81) uint16 millimetres with holes, jumps and the extremes."""
    rng = np.random.default_rng(seed)
    depth = (1000 + 3 * np.arange(81) + rng.integers(-5, 6, (60, 81))).astype(np.uint16)
    depth[rng.random(depth.shape) < 0.3] = 0
    depth[20:30, 10:70] = 0
    depth[5, :4] = (65535, 1, 65535, 1)
    depth[-1, -7:] = 0  # ends in a hole
    return depth


def test_bytes_worked_out_by_hand() -> None:
    # 0 0 5: two zeros, one other, +5 is 10 with its sign, in groups of three 2|more, 1: nibbles 2 1 A 1.
    data = HEADER + struct.pack("<II", 3, 1) + bytes((0x00, 0x00, 0xA1, 0x21))
    got = depth_to_metres(message(data, "16UC1; compressedDepth rvl"))
    np.testing.assert_allclose(got, [[0, 0, 0.005]], rtol=1e-6)
    # A = 10100, B = -1009, as for a range of 10 m: value 4041 is 10100 / (4041 + 1009) = 2 m.
    data = struct.pack("<iff", 0, 10100.0, -1009.0) + png16(np.array([[4041, 0]], np.uint16))
    np.testing.assert_allclose(depth_to_metres(message(data, "32FC1; compressedDepth png")), [[2, 0]], rtol=1e-6)


@pytest.mark.parametrize("codec", CODECS)
def test_millimetres_come_back_as_they_were(codec: str) -> None:
    for depth in (ragged_depth(), np.zeros((4, 5), np.uint16), np.full((3, 3), 1234, np.uint16)):
        got = depth_to_metres(message(compressed_millimetres(depth, codec), f"16UC1; compressedDepth {codec}"))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, depth * 0.001, rtol=1e-6)


def test_unit_of_the_camera_counts_for_16_bits_and_not_for_metres() -> None:
    quarter, depth = Readers(depth_unit_m=0.00025), ragged_depth()
    png = (compressed_millimetres(depth, "png"), "16UC1; compressedDepth png"), (png16(depth), "16UC1; png compressed")
    for data, form in (*png, (compressed_millimetres(depth, "rvl"), "16UC1; compressedDepth rvl")):
        np.testing.assert_allclose(depth_to_metres(message(data, form), quarter), depth * 0.00025, rtol=1e-6)
    metres = message(compressed_metres(np.full((2, 2), 1.5, np.float32)), "32FC1; compressedDepth png")
    np.testing.assert_array_equal(depth_to_metres(metres, quarter), depth_to_metres(metres))


@pytest.mark.parametrize("codec", CODECS)
def test_metres_come_back_within_a_step_of_their_quantisation(codec: str) -> None:
    depth = ragged_depth().astype(np.float32) / 1000
    depth[depth == 0] = np.nan
    depth[depth < 0.3] = 0.3
    got = depth_to_metres(message(compressed_metres(depth, codec), f"32FC1; compressedDepth {codec}"))
    known = depth < 10
    assert (got[~known] == 0).all() and np.isfinite(got).all() and got.dtype == np.float32
    step = depth[known] ** 2 / 10100  # of inverse depth in steps of 1 / A
    assert (np.abs(got[known] - depth[known]) <= 1.01 * step).all()


@pytest.mark.parametrize("form", ["16UC1; compressedDepth", "16UC1"])
def test_format_without_a_codec_is_png_as_older_releases_write_it(form: str) -> None:
    got = depth_to_metres(message(compressed_millimetres(np.array([[7]], np.uint16)), form))
    np.testing.assert_allclose(got, [[0.007]], rtol=1e-6)


@pytest.mark.parametrize("form", ["16UC1; png compressed ", "16UC1; png"])
def test_plain_png_of_millimetres_is_lossless_and_read(form: str) -> None:
    depth = ragged_depth()
    np.testing.assert_allclose(depth_to_metres(message(png16(depth), form)), depth * 0.001, rtol=1e-6)


@needs_kinect
@pytest.mark.parametrize("codec", CODECS)
def test_real_depth_comes_back_whole(codec: str) -> None:
    depth = views()[0].millimetres[::2, ::2]
    got = depth_to_metres(message(compressed_millimetres(depth, codec), f"16UC1; compressedDepth {codec}"))
    np.testing.assert_array_equal(np.round(got * 1000).astype(np.uint16), depth)


def eight_bit_png() -> bytes:
    buffer = io.BytesIO()
    Picture.fromarray(np.zeros((4, 4), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


WHOLE = ragged_depth()


@pytest.mark.parametrize(
    ("data", "form", "says"),
    [
        (b"", "16UC1; compressedDepth png", "0 bytes: not even the header"),
        (HEADER, "16UC1; compressedDepth png", "12 bytes: not even the header"),
        (HEADER + png16(WHOLE)[:-300], "16UC1; compressedDepth png", "no readable PNG"),
        (HEADER + b"GIF89a", "16UC1; compressedDepth png", "no readable PNG"),
        (HEADER + eight_bit_png(), "16UC1; compressedDepth png", "mode L: grey of 16 bits"),
        (HEADER + png16(WHOLE), "jpeg", "format 'jpeg'.*lossy"),
        (HEADER + png16(WHOLE), "16UC1; jpeg compressed", "format '16UC1; jpeg compressed'"),
        (HEADER + png16(WHOLE), "mono16; compressedDepth png", "16UC1 or 32FC1"),
        (HEADER + png16(WHOLE), "16UC1; compressedDepth zstd", "codec 'zstd'.*png or rvl"),
        (HEADER + png16(WHOLE), "32FC1; compressedDepth png", "A = 0.0"),
        (struct.pack("<iff", 0, 1.0, float("nan")) + png16(WHOLE), "32FC1; compressedDepth png", "B = nan"),
        (HEADER + b"\1\0\0\0", "16UC1; compressedDepth rvl", "size is not even whole"),
        (HEADER + rvl(WHOLE)[:-400], "16UC1; compressedDepth rvl", "malformed after|ends after"),
        (HEADER + rvl(WHOLE)[:8], "16UC1; compressedDepth rvl", "ends after 0 of 81 x 60"),
        (HEADER + struct.pack("<II", 0, 5), "16UC1; compressedDepth rvl", "size is 0 x 5"),
        (HEADER + struct.pack("<II", 60000, 60000) + bytes(64), "16UC1; compressedDepth rvl", "size is 60000 x 60000"),
        (HEADER + struct.pack("<II", 3, 1) + b"\xff" * 64, "16UC1; compressedDepth rvl", "ends after 0"),
    ],
)  # fmt: skip
def test_malformed_depth_is_refused_and_the_reason_named(data: bytes, form: str, says: str) -> None:
    with pytest.raises(ConversionError, match=says):
        depth_to_metres(message(data, form))


def test_any_bytes_give_depth_or_a_reason() -> None:
    """Depth that is not negative and finite, whatever comes."""
    rng = np.random.default_rng(0)
    good = {codec: compressed_metres(ragged_depth().astype(np.float32) / 1000 + 0.3, codec) for codec in CODECS}
    refused = 0
    for i in range(400):
        codec = CODECS[i % 2]
        data = bytearray(good[codec][: rng.integers(len(good[codec])) if i % 3 == 0 else None])
        for at in rng.integers(0, max(1, len(data)), 5 if data else 0):
            data[at] = rng.integers(256)
        try:
            depth = depth_to_metres(message(bytes(data), f"32FC1; compressedDepth {codec}"))
        except ConversionError:
            refused += 1
            continue
        assert np.isfinite(depth).all() and (depth >= 0).all()
    assert 100 < refused < 400
