"""Decoding, headers and pixel hashes: odd modes, orientation, damage, bombs."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from sempairs.catalog.images import Header, UnreadableImage, decode, header, orientation_of, pixel_hash

Noise = Callable[..., Image.Image]
ToBytes = Callable[..., bytes]


@pytest.fixture(autouse=True)
def _no_warning_is_shown() -> Iterator[None]:
    """Whatever the file, and whatever the filters."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        yield
    assert not shown


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_rgb(noise: Noise, to_bytes: ToBytes, kind: str) -> None:
    image = noise()
    data = to_bytes(image, kind)
    assert decode(data).mode == "RGB"
    assert (pixels(decode(data)) == pixels(image)).all()
    assert header(data) == Header(6, 4, kind, "RGB")


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "JPEG2000", "GIF"])
def test_other_formats(noise: Noise, to_bytes: ToBytes, kind: str) -> None:
    from PIL import features

    if kind == "AVIF" and not features.check("avif"):
        kind = "PNG"  # not part of every build of Pillow
    data = to_bytes(noise(size=(16, 8)), kind)
    assert decode(data).size == (16, 8)
    assert header(data)[:2] == (16, 8)


def test_one_bit_and_grey(noise: Noise, to_bytes: ToBytes) -> None:
    grey = noise(mode="L")
    assert (pixels(decode(to_bytes(grey))) == pixels(grey)[..., None]).all()
    black_and_white = grey.convert("1")
    found = decode(to_bytes(black_and_white))
    assert found.mode == "RGB"
    assert (pixels(found)[..., 0] == np.where(pixels(black_and_white), 255, 0)).all()


def test_transparency_is_kept(noise: Noise, to_bytes: ToBytes) -> None:
    rgba = noise(mode="RGBA")
    assert decode(to_bytes(rgba)).mode == "RGBA"
    assert (pixels(decode(to_bytes(rgba))) == pixels(rgba)).all()
    grey_alpha = noise(mode="LA")
    found = pixels(decode(to_bytes(grey_alpha)))
    assert (found[..., :3] == pixels(grey_alpha)[..., :1]).all()
    assert (found[..., 3] == pixels(grey_alpha)[..., 1]).all()


def test_palettes(noise: Noise, to_bytes: ToBytes) -> None:
    image = noise().quantize(8)
    colours = pixels(image.convert("RGB"))
    assert decode(to_bytes(image)).mode == "RGB"
    assert (pixels(decode(to_bytes(image))) == colours).all()
    # One palette entry is transparent, or each has its own opacity.
    one = decode(to_bytes(image, transparency=3))
    assert one.mode == "RGBA"
    assert (pixels(one)[..., 3] == np.where(pixels(image) == 3, 0, 255)).all()
    each = decode(to_bytes(image, transparency=bytes([0, 50, 100, 150, 200, 250, 255, 7])))
    opacity = np.array([0, 50, 100, 150, 200, 250, 255, 7])
    assert (pixels(each)[..., 3] == opacity[pixels(image)]).all()
    assert (pixels(each)[..., :3] == colours).all()


def test_a_transparent_colour_without_alpha_channel(to_bytes: ToBytes) -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    found = decode(to_bytes(image, transparency=(4, 5, 6)))
    assert pixels(found)[0, :, 3].tolist() == [255, 0]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(to_bytes: ToBytes, kind: str) -> None:
    levels = np.array([[0, 128, 129, 257, 32768, 65535, 65406, 65407]], dtype=np.uint16)
    found = decode(to_bytes(Image.fromarray(levels), kind))
    assert found.mode == "RGB"
    assert pixels(found)[0, :, 0].tolist() == np.round(levels[0] / 257).astype(int).tolist()
    assert pixels(found)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255, 254, 255]


def test_big_endian_sixteen_bit(to_bytes: ToBytes) -> None:
    image = Image.frombytes("I;16B", (2, 1), struct.pack(">HH", 257, 65535))
    assert pixels(decode(to_bytes(image, "TIFF")))[0, :, 0].tolist() == [1, 255]


def test_a_transparent_sixteen_bit_level(to_bytes: ToBytes) -> None:
    levels = np.array([[5, 300]], dtype=np.uint16)
    data = to_bytes(Image.fromarray(levels))
    # Pillow does not write this chunk for 16 bits: put it behind the header (8 + 25 bytes).
    chunk = b"tRNS" + struct.pack(">H", 300)
    data = data[:33] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    assert pixels(decode(data))[0, :, 3].tolist() == [255, 0]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_defined_range(to_bytes: ToBytes, mode: str) -> None:
    array = np.array([[0, 70000]], dtype=np.float32 if mode == "F" else np.int32)
    with pytest.raises(UnreadableImage, match="no defined range"):
        decode(to_bytes(Image.fromarray(array), "TIFF"))


def test_cmyk(to_bytes: ToBytes) -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for kind in ("TIFF", "JPEG"):
        found = pixels(decode(to_bytes(red, kind))).astype(int)
        assert abs(found - [255, 0, 0]).max() <= 6


def test_animations_give_their_first_picture(to_bytes: ToBytes) -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = to_bytes(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert pixels(decode(data).convert("RGB"))[2, 2].tolist() == [255, 0, 0]
        assert header(data)[:2] == (5, 5)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_orientation(noise: Noise, to_bytes: ToBytes, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = noise()
    options = {"lossless": True} if kind == "WEBP" else {}
    data = to_bytes(image, kind, exif=exif, **options)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    found = decode(data)
    assert found.size == ((6, 4) if orientation < 5 else (4, 6))
    assert (pixels(found) == pixels(expected)).all()
    assert header(data)[:2] == found.size


def test_orientation_written_behind_the_pixels(noise: Noise, to_bytes: ToBytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    chunk = b"eXIf" + exif.tobytes()[6:]
    data = to_bytes(noise())
    end = data.rindex(b"IEND") - 4
    size = struct.pack(">I", len(chunk) - 4)
    data = data[:end] + size + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[end:]
    assert header(data)[:2] == decode(data).size == (4, 6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_as_they_are_stored(noise: Noise, to_bytes: ToBytes, orientation: int) -> None:
    """For annotations that count these: the orientation is told, and left out on request."""
    image, exif = noise(3, (7, 5)), Image.Exif()
    exif[0x0112] = orientation
    data = to_bytes(image, "PNG", exif=exif.tobytes())
    assert orientation_of(data) == orientation
    assert decode(data, upright=False).tobytes() == image.tobytes()
    assert decode(data).size == ((5, 7) if orientation >= 5 else (7, 5))
    assert orientation_of(to_bytes(image, "PNG")) == 1


def test_an_orientation_that_does_not_exist(noise: Noise, to_bytes: ToBytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    assert decode(to_bytes(noise(), exif=exif)).size == (6, 4)


def test_pixel_hash_is_of_pixels_and_size(noise: Noise, to_bytes: ToBytes) -> None:
    image = noise()
    hashes = {pixel_hash(decode(to_bytes(image, kind))) for kind in ("PNG", "BMP", "TIFF")}
    assert hashes == {pixel_hash(image)} == {pixel_hash(image.convert("RGBA"))}
    assert pixel_hash(noise(1)) not in hashes
    flat, tall = Image.new("RGB", (6, 2)), Image.new("RGB", (2, 6))
    assert pixel_hash(flat) != pixel_hash(tall)


class TestDamage:
    def test_empty_and_no_image(self) -> None:
        for data, reason in [
            (b"", "empty"),
            (b"hello" * 100, "not an image"),
            (b"%!PS-Adobe-3.0 EPSF", "not"),
        ]:
            for read in (header, decode):
                with pytest.raises(UnreadableImage, match=reason):
                    read(data)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    def test_the_header_shows_that_a_file_was_cut(self, noise: Noise, to_bytes: ToBytes, kind: str) -> None:
        data = to_bytes(noise(size=(40, 40)), kind)
        header(data)
        for end in [*range(1, len(data), 37), len(data) - 1]:
            with pytest.raises(UnreadableImage):
                header(data[:end])

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000"])
    def test_decoding_finds_every_missing_pixel(self, noise: Noise, to_bytes: ToBytes, kind: str) -> None:
        data = to_bytes(noise(size=(40, 40)), kind)
        for end in range(1, len(data) - 30, 37):
            with pytest.raises(UnreadableImage):
                decode(data[:end])

    def test_a_thumbnails_end_is_not_the_pictures(self, noise: Noise, to_bytes: ToBytes) -> None:
        thumbnail = to_bytes(noise(size=(8, 8)), "JPEG")
        data = to_bytes(noise(size=(40, 40)), "JPEG", comment=thumbnail)
        header(data)
        assert data[: len(data) // 2].count(b"\xff\xd9") == 1
        with pytest.raises(UnreadableImage, match="truncated"):
            header(data[: len(data) // 2 + 400])

    def test_what_follows_a_jpeg_does_no_harm(self, noise: Noise, to_bytes: ToBytes) -> None:
        data = to_bytes(noise(size=(40, 40)), "JPEG") + b"appended by a camera"
        assert header(data)[:2] == decode(data).size

    def test_faults_inside_compressed_data(self, noise: Noise, to_bytes: ToBytes) -> None:
        data = bytearray(to_bytes(noise(size=(40, 40))))
        data[len(data) // 2] ^= 0xFF
        header(bytes(data))  # the header alone cannot know
        with pytest.raises(UnreadableImage):
            decode(bytes(data))

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(UnreadableImage, match="No such file"):
            header(tmp_path / "absent.png")

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_hostile_bytes_are_unreadable_or_an_image(self, data: st.DataObject) -> None:
        kinds = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]
        kind = data.draw(st.sampled_from(kinds))
        buffer = io.BytesIO()
        Image.linear_gradient("L").resize((9, 7)).save(buffer, kind)
        damaged = bytearray(buffer.getvalue())
        for _ in range(data.draw(st.integers(1, 6))):
            place = data.draw(st.integers(0, min(len(damaged), 200) - 1))
            damaged[place] = data.draw(st.integers(0, 255))
        for read in (header, decode):
            with contextlib.suppress(UnreadableImage):  # and no other exception, nor a warning
                read(bytes(damaged))


def test_reasons_are_one_printable_line() -> None:
    assert str(UnreadableImage("a\nb\x1b[31m")) == r"a b\u001b[31m"
    assert str(UnreadableImage(KeyError())) == "KeyError"


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that announces that many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + ihdr + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 60_000])  # above Pillow's warning, above its error
def test_decompression_bombs(side: int) -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    for read in (header, decode):
        with pytest.raises(UnreadableImage, match=r"bomb|exceeds limit"):
            read(bomb(side, side))


def test_warning_filters_are_left_as_they_were(noise: Noise, to_bytes: ToBytes) -> None:
    before = list(warnings.filters)
    data = [to_bytes(noise(seed)) for seed in range(8)] + [bomb(10_000, 10_000)]

    def work() -> None:
        for item in data * 20:
            try:
                decode(item)
            except UnreadableImage:
                continue

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert list(warnings.filters) == before


def test_results_are_independent_of_the_file(noise: Noise, to_bytes: ToBytes) -> None:
    """What comes back is a loaded copy: nothing is read later, from whatever thread."""
    found: Any = decode(to_bytes(noise()))
    assert getattr(found, "fp", None) is None
    assert found.getpixel((0, 0)) == noise().getpixel((0, 0))
