"""The image files of a catalogue, read again from their sources and checked against their hashes."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from sempairs.catalog import Catalog
from sempairs.catalog.images import UnreadableImage, pixel_hash
from sempairs.catalog.pictures import Pictures
from sempairs.catalog.sources.base import FileSource, Source
from sempairs.catalog.sources.reading import in_threads
from sempairs.errors import UserError
from sempairs.files import sha256_bytes
from sempairs.progress import track

SIZE = "file_size"
WORKERS = 4  # threads that read ahead of the one that writes; each holds a few images


class ImageFiles:
    """Files of the images of `catalog`, by a `uri` that is unique in it.

    An image that its source keeps as bare pixels (IDX files, CIFAR) becomes a PNG file, and its row in
    `catalog` has that file's hash; all other rows keep theirs. Safe to use from several threads.
    """

    def __init__(self, catalog: Catalog, *, progress: bool = False) -> None:
        """Raises: UserError if a source is not where it was, or an image without a file is another one."""
        ordered = catalog.in_order()
        self._pictures = Pictures(ordered)
        self._uri: list[str] = ordered.column("uri").tolist()
        self._source: list[str] = ordered.column("source").tolist()
        self._with_files: dict[str, bool] = {}
        self._lock = threading.Lock()
        distinct = pc.count_distinct(ordered.table.column("uri")).as_py() == len(ordered)
        if not distinct:  # of several sources
            ordered = ordered.with_column("uri", ordered.column("image_id"))
        self.catalog = self._drawn(ordered, progress)
        self._row = {uri: row for row, uri in enumerate(self.catalog.column("uri"))}

    def read(self, uri: str) -> bytes:
        """The file of an image. Raises: UserError if it cannot be read any more."""
        row = self._row[uri]
        try:
            return self._bytes(row)
        except UnreadableImage as error:
            raise UserError(f"image {uri}", f"cannot be read ({error})", remedy="scan again") from None

    def with_sizes(self, *, progress: bool = False) -> Catalog:
        """The catalogue with the column `file_size` (bytes), every file having been read and checked."""
        rows = list(zip(self.catalog.column("uri"), self.catalog.column("file_hash"), strict=True))
        sizes = in_threads(lambda row: len(checked(self.read, *row)), rows, WORKERS)
        shown = track(sizes, total=len(rows), what="hashing", unit="image") if progress else sizes
        return self.catalog.with_column(SIZE, list(shown))

    def _bytes(self, row: int) -> bytes:
        source, uri = self._pictures.source(row), self._uri[row]
        return read_file(source, uri) if self._has_files(row) else _png(source.open_image(uri))

    def _has_files(self, row: int) -> bool:
        spec = self._source[row]
        with self._lock:
            if spec not in self._with_files:
                self._with_files[spec] = has_files(self._pictures.source(row), self._uri[row])
            return self._with_files[spec]

    def _drawn(self, catalog: Catalog, progress: bool) -> Catalog:
        """The catalogue with the hashes of the PNG files of images that have no file of their own."""
        rows = [row for row in range(len(catalog)) if not self._has_files(row)]
        if not rows:
            return catalog
        files, pixels = catalog.column("file_hash"), catalog.column("pixel_hash")
        for row in track(rows, what="encoding", unit="image") if progress else rows:
            image = self._pictures.image(row)
            recorded = pixels[row] or files[row]
            pixels[row] = pixel_hash(image)
            if recorded not in (pixels[row], *_bare_hashes(image)):
                rule = "is not the one that the catalogue was made from"
                raise UserError(f"image {self._uri[row]}", rule, remedy="scan again")
            files[row] = sha256_bytes(_png(image))
        return catalog.with_column("file_hash", files).with_column("pixel_hash", pixels)


def has_files(source: Source, uri: str) -> bool:
    """Whether `source` keeps its images as files, `uri` being one of them."""
    if not isinstance(source, FileSource):
        return False
    try:
        read_file(source, uri)
    except UnreadableImage:
        try:  # a file that is gone, or a source of bare pixels beside files of another kind?
            source.open_image(uri)
        except UnreadableImage:
            return True
        return False
    return True


def read_file(source: Source, uri: str) -> bytes:
    """The bytes of an image's file as they are. Raises: UnreadableImage."""
    if not isinstance(source, FileSource):
        raise UnreadableImage("this source keeps pixels, not files")
    return source.read_bytes(uri)


def checked(read: Callable[[str], bytes], uri: str, file_hash: str) -> bytes:
    """The bytes of a file. Raises: UserError if they do not have `file_hash`."""
    data = read(uri)
    if sha256_bytes(data) != file_hash:
        rule = "is not the file that the catalogue was made from"
        raise UserError(f"image {uri}", rule, remedy="scan again")
    return data


def _bare_hashes(image: Image.Image) -> tuple[str, str]:
    """What a `file_hash` may be where there is no file: of the pixels, in colour or grey."""
    pixels = np.asarray(image)
    return sha256_bytes(pixels.tobytes()), sha256_bytes(np.ascontiguousarray(pixels[..., 0]).tobytes())


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    grey = image.mode == "RGB" and all(band == image.getchannel(0) for band in image.split()[1:])
    (image.getchannel(0) if grey else image).save(stream, "PNG", optimize=False, compress_level=6)
    return stream.getvalue()
