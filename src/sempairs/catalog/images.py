"""Image files to upright 8-bit RGB or RGBA, and what their header says.

Colour profiles are not applied. Of animated and multi-page files the first picture is taken. Vector formats
and those that call another program (EPS) are not read.
"""

from __future__ import annotations

import functools
import hashlib
import io
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from sempairs.catalog.names import printable

_ENDINGS = "png apng jpg jpeg jpe jfif webp gif bmp dib tif tiff ppm pgm pbm pnm avif jp2"
SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000")
_ORIENTATION = 0x0112
# EXIF orientation to the operation that makes the picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# `warnings.catch_warnings` changes the whole process, so only one thread at a time may be inside it.
_QUIET = threading.RLock()


class UnreadableImage(ValueError):  # noqa: N818 (a name of the project's contracts)
    """An image that cannot be read; the message is the reason, in one line."""

    def __init__(self, reason: object) -> None:
        super().__init__(printable(" ".join(str(reason).split())) or type(reason).__name__)


class Header(NamedTuple):
    """Size in pixels of the upright picture, and the file's format and mode as Pillow names them."""

    width: int
    height: int
    format: str
    mode: str


def decode(data: bytes, *, square: int | None = None, upright: bool = True) -> Image.Image:
    """The picture in an image file's bytes: RGB, or RGBA where the file says anything about transparency;
    upright (EXIF orientation applied), 16-bit grey scaled to 8 bits, fully loaded.

    square: a JPEG whose shorter side has at least twice as many pixels comes as its central square of this
    side, decoded at a half, a quarter or an eighth of its size, which is faster. Others come as they are.
    upright: False leaves the picture as its pixels are stored, for annotations that count these.

    Raises: UnreadableImage if it is damaged, truncated, no image, has more pixels than Pillow's
    `MAX_IMAGE_PIXELS`, or has pixels without a defined range (floats, 32-bit integers).
    """
    image, orientation = _open(data)
    try:
        scaled = None
        if square is not None and image.format == "JPEG" and min(image.size) >= 2 * square:
            scaled = image.draft(None, (square, square))
        image.load()
        image = _eight_bit(image)
        if square is not None and scaled is not None:
            # The picture's own extent: the last pixels, rounded up, lie partly outside of it.
            _, (_, _, width, height) = scaled
            side = min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
            image = image.resize((square, square), Image.Resampling.BILINEAR, box=box)
        return image.transpose(_UPRIGHT[orientation]) if upright and orientation in _UPRIGHT else image
    except UnreadableImage:
        raise
    # Pillow's decoders raise almost any exception on hostile input; none of them may end a scan.
    except Exception as error:
        raise UnreadableImage(error) from error


def header(source: bytes | Path) -> Header:
    """Size, format and mode of an image file or its bytes, without decoding pixels.

    Beside a header that cannot be read this notices empty files, pixel counts above Pillow's
    `MAX_IMAGE_PIXELS`, and PNG, JPEG and WebP files that were cut short. It does not notice faults inside
    compressed data, nor cut GIF, BMP and TIFF files; `decode` does.

    Raises: UnreadableImage.
    """
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise UnreadableImage(error.strerror or error) from None
    image, orientation = _open(data)
    _check_end(image.format or "", data)
    width, height = image.size if orientation < 5 else image.size[::-1]
    return Header(width, height, image.format or "", image.mode)


def orientation_of(data: bytes) -> int:
    """The EXIF orientation of an image file; 1 where it has none, or Pillow itself applies it (TIFF).
    From 5 on it swaps width and height. Raises: UnreadableImage."""
    return _open(data)[1]


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 over the size and the RGBA bytes: equal for equal pictures, whatever file they came in."""
    digest = hashlib.sha256(f"{image.width}x{image.height}\n".encode())
    digest.update(image.convert("RGBA").tobytes())
    return digest.hexdigest()


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _open(data: bytes) -> tuple[Image.Image, int]:
    """The image, not yet decoded, and its EXIF orientation (1 where it has none)."""
    if not data:
        raise UnreadableImage("the file is empty")
    try:
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_formats())
            orientation = _orientation(image, data)
    except UnidentifiedImageError:
        raise UnreadableImage("not an image of a known format, or its header is damaged") from None
    except Exception as error:  # as in `decode`
        raise UnreadableImage(error) from error
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        size = f"{image.width} x {image.height}"
        raise UnreadableImage(f"{size} pixels, more than {limit}: a decompression bomb?")
    return image, orientation if orientation in _UPRIGHT else 1


def _orientation(image: Image.Image, data: bytes) -> int:
    """The EXIF orientation; 1 where Pillow itself turns the picture upright (TIFF).

    Pillow would decode a whole PNG to look for EXIF behind its pixels.
    """
    if image.format == "TIFF":
        image.getexif()  # what is wrong with it is said here, not on loading, where nobody keeps it quiet
        return 1
    if image.format == "PNG" and not image.info.keys() & {"exif", "Raw profile type exif"}:
        behind = [data[start : start + size] for kind, start, size in _png_chunks(data) if kind == b"eXIf"]
        if not behind:
            return 1
        image.info["exif"] = b"Exif\x00\x00" + behind[0]
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    return int(image.getexif().get(_ORIENTATION, 1))


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels have no defined range")
    if image.mode.startswith("I"):
        return _from_sixteen_bit(image)
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _from_sixteen_bit(image: Image.Image) -> Image.Image:
    """Grey levels 0-65535 to 0-255, rounded to the nearest. Pillow's own conversion clips at 255."""
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 65535:
        raise UnreadableImage("32-bit pixels have no defined range")
    grey = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    see_through = image.info.get("transparency")
    if not isinstance(see_through, int):
        return grey.convert("RGB")
    grey = grey.convert("RGBA")
    grey.putalpha(Image.fromarray(np.where(levels == see_through, 0, 255).astype(np.uint8)))
    return grey


def _check_end(kind: str, data: bytes) -> None:
    """Raises UnreadableImage if a PNG, JPEG or WebP file ends before its own structure says it does."""
    if kind == "PNG":
        complete = _png_is_whole(data)
    elif kind in ("JPEG", "MPO"):
        complete = _jpeg_is_whole(data)
    elif kind == "WEBP":
        complete = len(data) >= 8 + struct.unpack_from("<I", data, 4)[0]
    else:
        return
    if not complete:
        raise UnreadableImage("the file is truncated")


def _png_is_whole(data: bytes) -> bool:
    return any(kind == b"IEND" for kind, _, _ in _png_chunks(data))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and length of the chunks that lie in the file with their checksums."""
    start = 16
    while start + 4 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start - 8)
        if start + size + 4 <= len(data):
            yield kind, start, size
        start += size + 12


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the end marker follows the start of the (first) scan; thumbnails before it do not count."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
        elif marker == 0xDA:
            return data.find(b"\xff\xd9", place) >= 0
        else:
            place += 2 + struct.unpack_from(">H", data, place + 2)[0]
    return False
