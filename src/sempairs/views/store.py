"""The pixel store: every image of a catalogue as bytes of one size, ready to be cropped in batches.

An image is resized with antialiasing (Pillow's triangle filter, colours weighted by alpha) so that its
shorter side fits, and cut to its centre; of a square image nothing is lost.
On disk a store is one file: a header of `_HEADER` bytes (a tag, then JSON), then the pixels, memory-mapped.
The header holds the SHA-256 of the pixels, which is compared whenever a store is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sempairs.catalog.hashing import ArrayHash
from sempairs.catalog.sources.base import Source, UnreadableImage, unreadable
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.files import atomic_write, stable_hash
from sempairs.progress import track

Bytes = NDArray[np.uint8]

_FORMAT = 2
_TAG = b"sempairs pixels %d\n" % _FORMAT
_HEADER = 4096
_BLOCK = 1024  # images at once, where all are gone through


class ImageStore(Protocol):
    """Images (N, C, S, S) uint8 by row, wherever they are kept; C is 3, or 4 with alpha last."""

    @property
    def size(self) -> int:
        """Side of an image in pixels."""
        ...

    @property
    def channels(self) -> int: ...

    def __len__(self) -> int: ...

    def on_white(self) -> ImageStore:
        """The store with three channels, transparent pixels laid on white."""
        ...

    def prefetch(self, rows: NDArray[np.int64]) -> None:
        """Says which rows will be taken soon, maybe several times."""
        ...

    def take(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """Images (B, C, S, S) uint8 on `device`."""
        ...


@dataclass(frozen=True)
class PixelStore:
    """Pixels (N, C, S, S) uint8, row i the image of the catalogue's row i; C is 3, or 4 with alpha last.

    rows_hash: of the catalogue's ids and file hashes in their order. sha256: of the pixels, where known.
    """

    pixels: Tensor
    rows_hash: str
    sha256: str | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def channels(self) -> int:
        return self.pixels.shape[1]

    @property
    def size(self) -> int:
        """Side of an image in pixels."""
        return self.pixels.shape[2]

    def content_hash(self) -> str:
        """SHA-256 of the pixels, whatever images they are of."""
        return self.sha256 or _content_hash(self.pixels.cpu().numpy())

    @classmethod
    def build(
        cls,
        source: Source,
        catalog: Catalog,
        size: int,
        path: Path | None = None,
        *,
        workers: int | None = None,
        channels: int | None = None,
        shown: bool = True,
    ) -> PixelStore:
        """Read every image of a catalogue into memory, or into a file.

        Args:
            source: Where the images are.
            catalog: The images, one a row; row i of the store is row i of the catalogue.
            size: Side of the stored images in pixels.
            path: The file to write, whole or not at all; a store that is there is replaced. None: memory.
            workers: Threads; None: as many as fit the machine.
            channels: 3 lays transparent images on white, 4 keeps alpha, None keeps it if any image needs it.
            shown: Whether progress is shown.

        Returns:
            The store.

        Raises:
            UserError: if images cannot be read (all are named), or the file cannot be written.
        """
        assert channels in (None, 3, 4)
        if size < 1 or len(catalog) == 0:
            got = f"{len(catalog)} images of {size} pixels"
            raise UserError("pixel store", "needs at least one image and one pixel", got)
        for count in (channels,) if channels else (3, 4):
            try:
                return cls._build(
                    source, catalog, size, path, workers, count, laid_on_white=channels == 3, shown=shown
                )
            except _Transparent:
                continue  # met where none was expected: once more from the start, with room for alpha
        raise AssertionError("a store of four channels has room for alpha")

    @classmethod
    def _build(
        cls,
        source: Source,
        catalog: Catalog,
        size: int,
        path: Path | None,
        workers: int | None,
        channels: int,
        *,
        laid_on_white: bool,
        shown: bool,
    ) -> PixelStore:
        shape, digest = (len(catalog), channels, size, size), rows_hash(catalog)

        def load(uri: str) -> Bytes:
            return image_bytes(source.open_image(uri), size, channels, laid_on_white=laid_on_white)

        uris = catalog.column("uri")
        if path is None:
            pixels = np.empty(shape, dtype=np.uint8)
            _fill(pixels, uris, load, workers, source.spec, shown=shown)
            return cls(torch.from_numpy(pixels), digest)
        header: dict[str, Any] = {"shape": shape, "rows_hash": digest}
        with atomic_write(path) as temporary:
            temporary.write_bytes(b" " * _HEADER)
            try:
                with open(temporary, "r+b") as handle:
                    # A full disk is found here, not as a signal while writing to mapped memory.
                    os.posix_fallocate(handle.fileno(), 0, _HEADER + int(np.prod(shape)))
            except OSError as error:
                raise UserError(str(path), f"cannot be written ({error.strerror})") from None
            mapped = np.memmap(temporary, dtype=np.uint8, mode="r+", offset=_HEADER, shape=shape)
            _fill(mapped, uris, load, workers, source.spec, shown=shown)
            mapped.flush()
            header["sha256"] = _content_hash(mapped)
            with open(temporary, "r+b") as handle:
                handle.write((_TAG + json.dumps(header).encode()).ljust(_HEADER))
        return cls.open(path, catalog=catalog, size=size)

    @classmethod
    def open(cls, path: Path, *, catalog: Catalog | None = None, size: int | None = None) -> PixelStore:
        """The store in a file, memory-mapped; checked against its hash, and `catalog` and `size` where given.

        All pixels are read once for it. Raises: UserError if the file is no store, is cut short, was altered,
        or holds other images or another size.
        """
        remedy = "remove it and build it again"
        try:
            with Path(path).open("rb") as handle:
                head = handle.read(_HEADER)
            length = Path(path).stat().st_size
        except OSError as error:
            raise UserError("pixel store", f"cannot be opened ({error.strerror})", str(path)) from None
        try:
            if len(head) < _HEADER or not head.startswith(_TAG):
                raise ValueError
            header = json.loads(head[len(_TAG) :])
            shape, digest = tuple(int(n) for n in header["shape"]), str(header["rows_hash"])
            content = str(header["sha256"])
        except (ValueError, KeyError, TypeError):
            rule = "is not a pixel store of this version"
            raise UserError("pixel store", rule, str(path), remedy) from None
        if length != _HEADER + int(np.prod(shape)):
            raise UserError("pixel store", f"is cut short: {length} bytes", str(path), remedy)
        if size is not None and shape[2] != size:
            raise UserError(f"pixel store {path}", f"must hold images of {size} pixels", shape[2], remedy)
        if catalog is not None and digest != rows_hash(catalog):
            raise UserError("pixel store", "holds the images of another catalogue", str(path), remedy)
        # Copy on write: torch wants memory it may write to, and nobody does.
        mapped = np.memmap(path, dtype=np.uint8, mode="c", offset=_HEADER, shape=shape)
        if _content_hash(mapped) != content:
            raise UserError("pixel store", "was altered after it was built", str(path), remedy)
        return cls(torch.from_numpy(mapped), digest, content)

    @classmethod
    def open_or_build(
        cls, source: Source, catalog: Catalog, size: int, path: Path, *, workers: int | None = None
    ) -> PixelStore:
        """Open the store at a path; build it first if there is none.

        Args:
            source: Where the images are.
            catalog: The images, one a row.
            size: Side of the stored images in pixels.
            path: The file.
            workers: Threads that read images; None: as many as fit the machine.

        Returns:
            The store.

        Raises:
            UserError: as `open` and `build` do.
        """
        if Path(path).exists():
            return cls.open(path, catalog=catalog, size=size)
        return cls.build(source, catalog, size, path, workers=workers)

    def resident(self, device: torch.device | str = "cpu") -> PixelStore:
        """The same store read whole into the memory of `device`."""
        pixels = torch.empty_like(self.pixels, device=device).copy_(self.pixels)
        return PixelStore(pixels, self.rows_hash, self.sha256)

    def on_white(self) -> PixelStore:
        """The store with three channels, in memory; itself where it has no alpha."""
        if self.channels == 3:
            return self
        flat = torch.empty_like(self.pixels[:, :3])
        for start in range(0, len(self), _BLOCK):
            flat[start : start + _BLOCK] = on_white(self.pixels[start : start + _BLOCK])
        return PixelStore(flat, self.rows_hash)

    def prefetch(self, rows: NDArray[np.int64]) -> None:
        """Nothing is left to read."""

    def take(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """Images (B, C, S, S) uint8 on `device`."""
        index = torch.from_numpy(rows).to(self.pixels.device)
        return self.pixels.index_select(0, index).to(device)


def on_white(images: Tensor) -> Tensor:
    """(B, 3 or 4, S, S) uint8 as (B, 3, S, S): transparent pixels laid on white, rounded to whole levels."""
    if images.shape[1] == 3:
        return images
    colour, alpha = images[:, :3].int(), images[:, 3:].int()
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).to(torch.uint8)


class _Transparent(Exception):  # noqa: N818 (not an error: it asks for a fourth channel)
    """An image needs alpha where none was expected."""


def image_bytes(image: Image.Image, size: int, channels: int, *, laid_on_white: bool = False) -> Bytes:
    """An RGB or RGBA image as (channels, size, size) uint8: its central square, resized."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    if channels == 3 and image.mode == "RGBA":
        if laid_on_white:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        elif np.asarray(image.getchannel("A")).min() < 255:
            raise _Transparent
    image = image.convert("RGB" if channels == 3 else "RGBA")
    if image.size != (size, size):
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image).transpose(2, 0, 1)


def store_key(catalog: Catalog, size: int) -> str:
    """What a store of these images is named after; a store of an older form has another name."""
    return stable_hash([rows_hash(catalog), size, _FORMAT])[:32]


def stored_hash(path: Path) -> str:
    """The hash of the pixels that a store's header names, "" of what is no store; nothing is compared."""
    try:
        with path.open("rb") as handle:
            return str(json.loads(handle.read(_HEADER)[len(_TAG) :])["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _content_hash(pixels: Bytes) -> str:
    """Of shape and bytes, (N, C, S, S) uint8."""
    digest = hashlib.sha256(json.dumps(list(pixels.shape)).encode())
    for start in range(0, len(pixels), _BLOCK):
        digest.update(np.ascontiguousarray(pixels[start : start + _BLOCK]).data)
    return digest.hexdigest()


def rows_hash(catalog: Catalog) -> str:
    """SHA-256 of a catalogue's ids and file hashes in the order of its rows."""
    digest = ArrayHash()
    for name in ("image_id", "file_hash"):
        digest.add(name, catalog.base.column(name), catalog.rows)
    return digest.hexdigest()


def _fill(
    pixels: Bytes,
    uris: Iterable[str],
    load: Callable[[str], Bytes],
    workers: int | None,
    spec: str,
    *,
    shown: bool,
) -> None:
    """pixels[i] = load(uris[i]) on threads; shown: with its progress.

    Raises: UserError, after all were tried, naming those of the source `spec` that cannot be read.
    """
    broken: list[tuple[str, object]] = []

    def work(item: tuple[int, str]) -> None:
        try:
            pixels[item[0]] = load(item[1])
        except UnreadableImage as error:
            broken.append((item[1], error))

    items = list(enumerate(uris))
    with ThreadPoolExecutor(workers or min(32, os.cpu_count() or 1)) as pool:
        blocks = (items[start : start + _BLOCK] for start in range(0, len(items), _BLOCK))
        done = (result for block in blocks for result in pool.map(work, block))
        try:
            for _ in track(done, total=len(items), what="pixels", unit="image") if shown else done:
                pass
        finally:
            pool.shutdown(cancel_futures=True)
    if broken:
        raise unreadable(sorted(broken, key=lambda one: one[0]), spec)
