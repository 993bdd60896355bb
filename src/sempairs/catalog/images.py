"""Image files to upright 8-bit RGB or RGBA, and what their header says.

What lies beside the pixels decides nothing: a file whose metadata is damaged, far too long or against the
rules is read without it. Colour profiles are not applied. Of animated and multi-page files the first picture
is taken. Vector formats and those that call another program (EPS) are not read.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from sempairs.catalog.names import printable
from sempairs.errors import UserError

R = TypeVar("R")

_ENDINGS = "png apng jpg jpeg jpe jfif webp gif bmp dib tif tiff ppm pgm pbm pnm avif jp2"
SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000")
_ORIENTATION = 0x0112
MAX_PIXELS = "SEMPAIRS_MAX_PIXELS"
_BOMB = f"a decompression bomb? Set {MAX_PIXELS} to a larger number to have it read"
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

    Raises: UnreadableImage if it is damaged, truncated, no image, has more than `max_pixels()` pixels, or has
    pixels without a defined range (floats, 32-bit integers).
    """
    return _with_or_without_metadata(data, lambda tried: _decode(tried, square, upright=upright))


def _decode(data: bytes, square: int | None, *, upright: bool) -> Image.Image:
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

    Beside a header that cannot be read this notices empty files, pixel counts above `max_pixels()`, and PNG,
    JPEG and WebP files that were cut short. It does not notice faults inside compressed data, nor cut GIF,
    BMP and TIFF files; `decode` does.

    Raises: UnreadableImage.
    """
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise UnreadableImage(error.strerror or error) from None
    image, orientation = _with_or_without_metadata(data, _open)
    _check_end(image.format or "", data)
    width, height = image.size if orientation < 5 else image.size[::-1]
    return Header(width, height, image.format or "", image.mode)


def orientation_of(data: bytes) -> int:
    """The EXIF orientation of an image file; 1 where it has none, or Pillow itself applies it (TIFF).
    From 5 on it swaps width and height. Raises: UnreadableImage."""
    return _with_or_without_metadata(data, _open)[1]


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 over the size and the RGBA bytes: equal for equal pictures, whatever file they came in."""
    digest = hashlib.sha256(f"{image.width}x{image.height}\n".encode())
    digest.update(image.convert("RGBA").tobytes())
    return digest.hexdigest()


def max_pixels() -> int | None:
    """Pixels an image may have; None for any number. `SEMPAIRS_MAX_PIXELS` says how many, else it is what
    Pillow opens: twice its `MAX_IMAGE_PIXELS`, 178,956,970.

    Raises: UserError if the variable holds no such number.
    """
    given = os.environ.get(MAX_PIXELS)
    if given:
        if not given.isascii() or not given.isdecimal() or int(given) < 1:
            raise UserError(MAX_PIXELS, "must be a whole number of pixels", given)
        return int(given)
    return None if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def _with_or_without_metadata(data: bytes, read: Callable[[bytes], R]) -> R:
    """What `read` makes of the file; where it fails, of the file without what lies beside its pixels."""
    try:
        return read(data)
    except UnreadableImage as error:
        bare = _bare(data)
        if bare is None:
            raise
        try:
            return read(bare)
        except UnreadableImage:
            raise error from None


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _open(data: bytes) -> tuple[Image.Image, int]:
    """The image, not yet decoded, and its EXIF orientation (1 where it has none)."""
    if not data:
        raise UnreadableImage("the file is empty")
    limit = max_pixels()
    try:
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _let_pillow_open(limit)
            image = Image.open(io.BytesIO(data), formats=_formats())
            orientation = _orientation(image, data)
    except UnidentifiedImageError:
        raise UnreadableImage("not an image of a known format, or its header is damaged") from None
    except Image.DecompressionBombError:
        raise UnreadableImage(f"more than {limit:,} pixels: {_BOMB}") from None
    except Exception as error:  # as in `decode`
        raise UnreadableImage(error) from error
    if limit is not None and image.width * image.height > limit:
        size = f"{image.width} x {image.height}"
        raise UnreadableImage(f"{size} pixels, more than {limit:,}: {_BOMB}")
    return image, orientation if orientation in _UPRIGHT else 1


def _let_pillow_open(limit: int | None) -> None:
    """Raises Pillow's own limit, which is the whole process's, to what the user allows."""
    own = Image.MAX_IMAGE_PIXELS
    if own is not None and (limit is None or limit > 2 * own):
        Image.MAX_IMAGE_PIXELS = limit


def _orientation(image: Image.Image, data: bytes) -> int:
    """The EXIF orientation; 1 where there is none, or none that can be read."""
    try:
        return _said_orientation(image, data)
    except Exception:  # as in `decode`: EXIF may hold anything
        return 1


def _said_orientation(image: Image.Image, data: bytes) -> int:
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


def _bare(data: bytes) -> bytes | None:
    """A PNG or JPEG file without what lies beside its pixels, EXIF aside; None for others and cut ones."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        chunks = list(_png_chunks(data))
        kept = [data[at - 8 : at + size + 4] for kind, at, size in chunks if _belongs(kind, data, at, size)]
        return data[:8] + b"".join(kept) if any(kind == b"IEND" for kind, _, _ in chunks) else None
    if data.startswith(b"\xff\xd8"):
        kept, place = [data[:2]], 2
        for marker, start, end in _jpeg_segments(data):
            if _is_needed(marker, data[start + 4 : end]):
                kept.append(data[start:end])
            place = end
        return b"".join([*kept, data[place:]])
    return None


def _belongs(kind: bytes, data: bytes, start: int, size: int) -> bool:
    """Whether a PNG chunk decides over the picture: those that PNG calls critical, by a capital letter, those
    that say what is transparent, and EXIF that came unharmed."""
    end = start + size
    sound = kind == b"eXIf" and data[end : end + 4] == struct.pack(">I", zlib.crc32(data[start - 4 : end]))
    return kind[:1].isupper() or kind == b"tRNS" or sound


def _is_needed(marker: int, body: bytes) -> bool:
    """Whether a JPEG segment decides over the picture: tables and frames, and what JFIF, Adobe and EXIF say
    of colours and orientation in segments long enough to say it."""
    if marker == 0xE0:
        return body.startswith(b"JFIF\0") and len(body) >= 14
    if marker == 0xE1:
        return body.startswith(b"Exif\0\0")
    if marker == 0xEE:
        return body.startswith(b"Adobe") and len(body) >= 12
    return not (0xE0 <= marker <= 0xEF or marker == 0xFE)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the segments before the first scan."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xDA:
            return
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        end = place + 2 + int(struct.unpack_from(">H", data, place + 2)[0])
        yield marker, place, end
        place = end


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the end marker follows the start of the (first) scan; thumbnails before it do not count."""
    place = max((end for _, _, end in _jpeg_segments(data)), default=2)
    while data[place : place + 2] == b"\xff\xff":  # fill bytes
        place += 1
    return data[place : place + 2] == b"\xff\xda" and data.find(b"\xff\xd9", place) >= 0
