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
from sempairs.errors import UserError

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


@pytest.mark.parametrize("side", [13_400, 60_000])  # just above Pillow's error, far above
def test_decompression_bombs_are_refused_and_can_be_allowed(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    for read in (header, decode):
        with pytest.raises(UnreadableImage, match=r"a decompression bomb\? Set SEMPAIRS_MAX_PIXELS"):
            read(bomb(side, side))
    monkeypatch.setenv("SEMPAIRS_MAX_PIXELS", str(side * side))
    assert header(bomb(side, side))[:2] == (side, side)
    monkeypatch.setenv("SEMPAIRS_MAX_PIXELS", str(side * side - 1))
    with pytest.raises(UnreadableImage, match="a decompression bomb"):
        header(bomb(side, side))


def test_large_pictures_that_pillow_opens_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert header(bomb(10_000, 9_500))[:2] == (10_000, 9_500)  # above Pillow's warning
    monkeypatch.setenv("SEMPAIRS_MAX_PIXELS", "1000")
    with pytest.raises(UnreadableImage, match="40 x 26 pixels, more than 1,000: a decompression bomb"):
        header(bomb(40, 26))
    monkeypatch.setenv("SEMPAIRS_MAX_PIXELS", "many")
    with pytest.raises(UserError, match="SEMPAIRS_MAX_PIXELS must be a whole number of pixels, got 'many'"):
        header(bomb(40, 26))


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    crc = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


_LONG = zlib.compress(bytes(3 << 20))
_UPSIDE_DOWN = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"
BESIDE_PNG = {
    "no EXIF": chunk(b"eXIf", b"no exif!"),
    "an orientation of text": chunk(b"eXIf", _UPSIDE_DOWN.replace(b"\x12\0\x03", b"\x12\0\x02")),
    "pHYs": chunk(b"pHYs", b"abc"),
    "gAMA": chunk(b"gAMA", b"1"),
    "cHRM": chunk(b"cHRM", b"123"),
    "sRGB": chunk(b"sRGB", b""),
    "tIME": chunk(b"tIME", b"1"),
    "a profile that is none": chunk(b"iCCP", b"x\0\0junk"),
    "a profile packed in an unknown way": chunk(b"iCCP", b"x\0\x07junk"),
    "a profile above 1 MiB": chunk(b"iCCP", b"x\0\0" + _LONG),
    "text above 1 MiB": chunk(b"zTXt", b"k\0\0" + _LONG),
    "international text above 1 MiB": chunk(b"iTXt", b"k\0\1\0\0\0" + _LONG),
    "text packed in an unknown way": chunk(b"zTXt", b"k\0\x09abc"),
    "text with a wrong checksum": chunk(b"tEXt", b"k\0v", 5),
    "much text": b"".join(chunk(b"zTXt", b"k%d\0\0" % i + zlib.compress(bytes(1 << 20))) for i in range(66)),
    "an animation that is none": chunk(b"acTL", b"1"),
}


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("what", BESIDE_PNG)
def test_what_lies_beside_the_pixels_of_a_png_decides_nothing(
    noise: Noise, to_bytes: ToBytes, what: str, behind: bool
) -> None:
    image = noise()
    data = to_bytes(image)
    at = data.index(b"IEND" if behind else b"IDAT") - 4
    changed = data[:at] + BESIDE_PNG[what] + data[at:]
    assert decode(changed).tobytes() == image.tobytes()
    assert header(changed)[:2] == image.size


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize(
    "beside",
    [
        segment(0xE1, b"Exif\0\0garbage"),
        segment(0xE1, b"Exif\0\0"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<<<"),
        segment(0xE2, b"MPF\0garbage"),
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE0, b"JFIF"),
        segment(0xEE, b"Adobe"),
        segment(0xED, b"Photoshop 3.0\0008BIM\x03\xed\0\0\0"),
        segment(0xFE, b""),
    ],
)
def test_what_lies_beside_the_pixels_of_a_jpeg_decides_nothing(
    noise: Noise, to_bytes: ToBytes, beside: bytes
) -> None:
    data = to_bytes(noise(size=(16, 8)), "JPEG")
    changed = data[:2] + beside + data[2:]
    assert decode(changed).tobytes() == decode(data).tobytes()
    assert header(changed) == header(data)


def test_a_sound_orientation_counts_beside_damage(noise: Noise, to_bytes: ToBytes) -> None:
    image = noise()
    data = to_bytes(image)
    at = data.index(b"IDAT") - 4
    damaged = chunk(b"gAMA", b"1") + chunk(b"eXIf", _UPSIDE_DOWN)
    turned = image.transpose(Image.Transpose.ROTATE_180)
    assert decode(data[:at] + damaged + data[at:]).tobytes() == turned.tobytes()


def test_damage_that_decides_over_pixels_is_still_found(noise: Noise, to_bytes: ToBytes) -> None:
    data = to_bytes(noise())
    at = data.index(b"IDAT") - 4
    unknown = chunk(b"XxXx", b"a chunk that PNG calls critical")
    for changed in (
        data[:at] + chunk(b"gAMA", b"1") + data[at:-20],
        data[:at] + chunk(b"gAMA", b"1") + data[at : at + 9] + b"\0\0\0" + data[at + 12 :],
        data[:at] + unknown[:-1] + b"\0" + data[at:],
    ):
        with pytest.raises(UnreadableImage):
            decode(changed)


def test_warning_filters_are_left_as_they_were(noise: Noise, to_bytes: ToBytes) -> None:
    before = list(warnings.filters)
    data = [to_bytes(noise(seed)) for seed in range(8)] + [bomb(20_000, 20_000)]

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
