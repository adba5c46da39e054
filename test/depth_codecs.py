"""What ``compressed_depth_image_transport`` publishes, written from the definitions of its formats. Slow and plain."""

from __future__ import annotations

import struct
import zlib

import numpy as np

DEPTH_MAX, QUANTIZATION = 10.0, 100.0  # that package's defaults


def png16(values: np.ndarray) -> bytes:
    """(H, W) uint16 as a PNG of grey with 16 bits (RFC 2083): big-endian rows, each after the number of its filter."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def rvl(values: np.ndarray) -> bytes:
    """(H, W) uint16 as in Wilson's paper, width and height before it."""
    nibbles: list[int] = []

    def write(number: int) -> None:
        while True:
            group, number = number & 7, number >> 3
            nibbles.append(group | 8 if number else group)
            if not number:
                return

    pixels = [int(v) for v in values.ravel()]
    at, before = 0, 0
    while at < len(pixels):
        zeros = 0
        while at + zeros < len(pixels) and pixels[at + zeros] == 0:
            zeros += 1
        at += zeros
        others = 0
        while at + others < len(pixels) and pixels[at + others]:
            others += 1
        write(zeros)
        write(others)
        for value in pixels[at : at + others]:
            delta = value - before
            write(2 * delta if delta >= 0 else -2 * delta - 1)
            before = value
        at += others
    nibbles += [0] * (-len(nibbles) % 8)
    words = b"".join(
        struct.pack("<I", int("".join(f"{n:x}" for n in nibbles[i : i + 8]), 16)) for i in range(0, len(nibbles), 8)
    )
    return struct.pack("<II", values.shape[1], values.shape[0]) + words


CODECS = {"png": png16, "rvl": rvl}


def compressed_millimetres(values: np.ndarray, codec: str = "png") -> bytes:
    """(H, W) uint16."""
    return struct.pack("<iff", 0, 0.0, 0.0) + CODECS[codec](values)


def compressed_metres(depth: np.ndarray, codec: str = "png") -> bytes:
    """(H, W) float32; what is not below ``DEPTH_MAX`` (NaN, Inf) becomes 0."""
    a = QUANTIZATION * (QUANTIZATION + 1)
    b = 1 - a / DEPTH_MAX
    known = depth < DEPTH_MAX
    values = np.where(known, a / np.where(known, depth, 1) + b, 0).astype(np.uint16)
    return struct.pack("<iff", 0, a, b) + CODECS[codec](values)
