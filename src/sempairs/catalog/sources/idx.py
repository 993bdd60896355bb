"""`fashion-mnist:PATH`: the four IDX files of Fashion-MNIST, gzipped or not.

The format, LeCun's: two zero bytes, the type (8: unsigned bytes), the number of
dimensions, each dimension as a big-endian 32-bit number, then the values.
"""

from __future__ import annotations

import functools
import gzip
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.names import escape_name
from sempairs.catalog.sources.base import Scan, existing_path, source_kind
from sempairs.catalog.sources.reading import Measured, Member, measure_pixels, scan_members
from sempairs.errors import UserError

CATEGORIES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
_FILES = {"train": "train", "test": "t10k"}
_MAX_BYTES = 1 << 31


@source_kind("fashion-mnist", summary="Fashion-MNIST's IDX files", example="fashion-mnist:fashion-mnist")
class FashionMnistSource:
    """70,000 grey pictures of clothes, 28 x 28, ten categories; the files' own train and test splits.

    Xiao et al. 2017, arXiv:1708.07747. An image has no file of its own: its `file_hash` is that of its bytes.
    """

    def __init__(self, rest: str) -> None:
        self.root = existing_path("fashion-mnist", rest, folder=True)
        self.spec = f"fashion-mnist:{self.root}"
        self._name = escape_name(self.root.name) or "fashion-mnist"

    def scan(self, *, workers: int | None = None, progress: bool = False, decode: bool = False) -> Scan:
        def measure(uri: str) -> Measured:
            pixels = self._pixels(uri)
            return measure_pixels(_rgb(pixels), pixels.tobytes(), decode=decode)

        members = []
        for split in _FILES:
            for row, label in enumerate(self._split(split)[1]):
                uri = f"{split}/{row:05d}"
                columns = {"category": CATEGORIES[label], "split": split}
                members.append(Member(uri, f"{self._name}/{uri}", columns))
        return scan_members(self.spec, members, measure, workers=workers, progress=progress)

    def open_image(self, uri: str) -> Image.Image:
        return _rgb(self._pixels(uri))

    def _pixels(self, uri: str) -> np.ndarray:
        split, _, row = uri.partition("/")
        if split not in _FILES or not (row.isascii() and row.isdecimal()):
            raise UnreadableImage(f"no image {uri!r} in this source")
        images = self._split(split)[0]
        if int(row) >= len(images):
            raise UnreadableImage(f"no image {uri!r} in this source")
        found: np.ndarray = images[int(row)]
        return found

    @functools.cache  # noqa: B019 (a source lives as long as its arrays are wanted)
    def _split(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, H, W) and labels (N,), uint8."""
        images = read_idx(self.root, f"{_FILES[split]}-images-idx3-ubyte", dimensions=3)
        labels = read_idx(self.root, f"{_FILES[split]}-labels-idx1-ubyte", dimensions=1)
        if len(images) != len(labels):
            got = f"{len(images)} and {len(labels)}"
            raise UserError(f"fashion-mnist: {split}", "must have as many images as labels", got)
        largest = int(labels.max(initial=0))
        if largest >= len(CATEGORIES):
            raise UserError(f"fashion-mnist: {split}", f"labels must be below {len(CATEGORIES)}", largest)
        return images, labels


def read_idx(folder: Path, name: str, *, dimensions: int) -> np.ndarray:
    """The array in an IDX file of unsigned bytes, called `name` or `name.gz`.

    Raises: UserError if neither is there or the file is no such IDX file.
    """
    plain, packed = folder / name, folder / f"{name}.gz"
    path = plain if plain.exists() else packed
    if not path.exists():
        raise UserError(str(folder), f"must hold {name} or {name}.gz, and does not")
    try:
        with gzip.open(path) if path == packed else open(path, "rb") as handle:
            return _parse(path, handle, dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(str(path), f"is damaged ({error})") from None


def _parse(path: Path, handle: BinaryIO | gzip.GzipFile, dimensions: int) -> np.ndarray:
    start = handle.read(4 + 4 * dimensions)
    if len(start) < 4 + 4 * dimensions or start[:4] != bytes([0, 0, 8, dimensions]):
        raise UserError(str(path), f"must be an IDX file of bytes in {dimensions} dimensions")
    shape = tuple(int(size) for size in np.frombuffer(start, ">u4", offset=4))
    size = int(np.prod(shape, dtype=object))
    if size > _MAX_BYTES:
        raise UserError(str(path), f"must hold at most {_MAX_BYTES} bytes", shape)
    # One byte more than announced, not all there is: a small file can unpack to any size.
    data = handle.read(size + 1)
    if len(data) != size:
        raise UserError(str(path), f"must hold exactly the {size} bytes that its header announces")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _rgb(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).convert("RGB")
