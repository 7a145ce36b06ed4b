"""Tests for image files: decoding and rejection."""

from __future__ import annotations

import base64
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.tiny_vision import COLORS, create_image, encode_base64, encode_image
from training.readers.archive import BytesContent
from training.readers.strict_json import InvalidInput
from training.tasks.support.images import MAX_ASPECT_RATIO, MAX_PIXELS, ImageInput, decode

RED = COLORS["red"]


def get_decode_error(data: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        decode(BytesContent(data))
    return caught.value.message


def list_pixels(image: Image.Image) -> list[Any]:
    return np.asarray(image).reshape(-1, 3).tolist()


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("JPEG", {"quality": 95}), ("WEBP", {"lossless": True}), ("GIF", {}), ("BMP", {})],
)
def test_each_format_is_read(kind: str, options: dict[str, Any]) -> None:
    image = decode(BytesContent(encode_image(Image.new("RGB", (9, 5), RED), kind, **options)))
    assert (image.mode, image.size) == ("RGB", (9, 5))
    assert np.abs(np.asarray(image).astype(int) - RED).max() < 4


GRAY = Image.new("RGB", (4, 4), (200, 200, 200))
MODES = {mode: GRAY.convert(mode) for mode in ("L", "LA", "RGBA", "CMYK")}
MODES |= {"P": GRAY.quantize(2), "I;16": Image.fromarray(np.full((4, 4), 200 * 256, np.uint16))}


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_becomes_rgb(mode: str) -> None:
    assert MODES[mode].mode == mode
    image = decode(BytesContent(encode_image(MODES[mode], "JPEG" if mode == "CMYK" else "PNG")))
    assert np.abs(np.asarray(image).astype(int) - 200).max() < 4


def test_a_palette_with_transparency_is_read_without_a_warning() -> None:
    image = Image.new("RGB", (2, 1), RED).convert("P", palette=Image.Palette.ADAPTIVE)
    assert list_pixels(decode(BytesContent(encode_image(image, transparency=bytes([0]))))) == [list(RED)] * 2


def test_the_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (2, 1))
    image.putdata([(0, 0, 0), (255, 255, 255)])
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated = decode(BytesContent(encode_image(image, exif=exif)))
    assert rotated.size == (1, 2)
    assert list_pixels(rotated) == [[0, 0, 0], [255, 255, 255]]


def test_the_first_frame_is_decoded() -> None:
    first, second = Image.new("RGB", (3, 3), RED), Image.new("RGB", (3, 3), (0, 0, 0))
    for kind in ("GIF", "WEBP", "PNG"):
        image = decode(BytesContent(encode_image(first, kind, save_all=True, append_images=[second])))
        assert np.abs(np.asarray(image).astype(int) - RED).max() < 6


def build_oversized_png(width: int, height: int) -> bytes:
    """Build a PNG whose header declares more pixels than its data contains."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8000, 10_000, 60_000])
def test_bombs_are_rejected_before_decoding(side: int) -> None:
    assert side**2 > MAX_PIXELS
    assert "pixels" in get_decode_error(build_oversized_png(side, side))


def test_extreme_aspect_ratios_are_rejected() -> None:
    decode(BytesContent(encode_image(Image.new("RGB", (MAX_ASPECT_RATIO, 1)))))
    assert "crop" in get_decode_error(encode_image(Image.new("RGB", (MAX_ASPECT_RATIO + 1, 1))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        encode_image(create_image(RED, 0))[:-40],
        encode_image(create_image(RED, 0), "JPEG")[:200],
        encode_image(create_image(RED, 0), "TIFF"),
    ],
    ids=["empty", "text", "cut png", "cut jpeg", "tiff"],
)
def test_incomplete_and_unsupported_files_are_rejected(data: bytes) -> None:
    assert "save the image" in get_decode_error(data)


VALID_IMAGES = [encode_image(create_image(RED, 1, (6, 6)), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(VALID_IMAGES), st.integers(0, 400), st.binary(max_size=12), st.booleans())
def test_no_bytes_crash_the_decoder(data: bytes, at: int, noise: bytes, cut: bool) -> None:
    at %= len(data)
    with suppress(InvalidInput):
        decode(BytesContent(data[:at] + noise + (b"" if cut else data[at + len(noise) :])))


def test_plain_wrapped_and_url_base64_give_the_same_image() -> None:
    data = encode_image(create_image(RED, 3))
    wrapped = base64.encodebytes(data).decode()
    for value in (encode_base64(data), wrapped, f"data:image/png;base64,{encode_base64(data)}"):
        assert ImageInput.model_validate({"image": value}).image.read() == data
