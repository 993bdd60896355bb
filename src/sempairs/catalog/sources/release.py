"""`release:PATH`, a dataset written by `sempairs.release`, and those that come along."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image

from sempairs.catalog.images import UnreadableImage, pixel_hash
from sempairs.catalog.sources.base import Problem, Scan, existing_path, source_kind
from sempairs.catalog.sources.reading import in_threads, worker_count
from sempairs.catalog.sources.shards import ParquetSource
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.files import read_json
from sempairs.progress import track

# How a release lies on disk; `sempairs.release` writes it so.
ABOUT = "release.json"
DATA = "data"
IMAGE = "image"
# 1: images alone, one file a split. 2: shards of a split, pairs, references; reads 1 as well.
FORMAT_1 = "sempairs.release/1"
FORMAT = "sempairs.release/2"

# What `images` says in `release.json`: the files themselves, or what they are known by.
FILES = "files"
REFERENCES = "references"

# Released datasets that come along, each a kind of source of its own.
BUNDLED = ("emoji-pairs", "object-pairs")
_BATCH = 64


@source_kind(
    "release",
    summary="a released dataset, its splits and meaning with it",
    example="release:data/emoji-pairs",
)
class ReleaseSource:
    """A release folder: `release.json` and Parquet files that hold catalogue columns and image bytes.

    The catalogue is read without the images. An image is read from its file when it is opened. A release of
    references has no images: its catalogue can be read, and `sempairs release join` adds one's own copies.
    """

    def __init__(self, rest: str) -> None:
        self.root = existing_path("release", rest, folder=True)
        self.spec = f"release:{self.root}"
        self.about = read_about(self.root)
        self._lock = threading.Lock()
        self._images: ParquetSource | None = None
        self._place: dict[str, str] = {}

    def scan(self, *, workers: int | None = None, progress: bool = False, decode: bool = False) -> Scan:
        """Takes the catalogue as released; with `decode`, opens every image and reports those whose pixels
        are not the recorded ones."""
        parts = [table for _, table in read_tables(self.root)]
        merged = pa.concat_tables(parts, promote_options="permissive")
        catalog = Catalog.from_table(merged).in_order()
        catalog = catalog.with_column("source", [self.spec] * len(catalog))
        _check_complete(self.root, self.about, len(catalog))
        if not decode or self.references_only:
            return Scan(catalog)
        reasons = self._check_pixels(catalog, workers, progress)
        sound = np.array([reason is None for reason in reasons], dtype=bool)
        uris = catalog.column("uri")
        problems = (Problem(uri, reason) for uri, reason in zip(uris, reasons, strict=True) if reason)
        return Scan(catalog.select(sound), tuple(sorted(problems, key=lambda p: p.where)))

    @property
    def references_only(self) -> bool:
        """Whether the release holds hashes of its images instead of the images."""
        return self.about.get("images") == REFERENCES

    def open_image(self, uri: str) -> Image.Image:
        images, name = self._place_of(uri)
        return images.open_image(name)

    def read_bytes(self, uri: str) -> bytes:
        """The bytes of an image's file. Raises: UnreadableImage."""
        images, name = self._place_of(uri)
        return images.read_bytes(name)

    def _place_of(self, uri: str) -> tuple[ParquetSource, str]:
        if self.references_only:
            raise UnreadableImage("this release holds references only; run `sempairs release join` first")
        images, place = self._index()
        if uri not in place:
            raise UnreadableImage(f"no image {uri!r} in this release")
        return images, place[uri]

    def _index(self) -> tuple[ParquetSource, dict[str, str]]:
        """Where in the Parquet files each uri lies; made when the first image is opened."""
        with self._lock:
            if self._images is None:
                for name, table in read_tables(self.root, ["uri"]):
                    for row, uri in enumerate(table.column("uri").to_pylist()):
                        self._place[uri] = f"{name}#{row:09d}"
                self._images = ParquetSource(str(self.root / DATA))
            return self._images, self._place

    def _check_pixels(self, catalog: Catalog, workers: int | None, progress: bool) -> list[str | None]:
        wanted = list(zip(catalog.column("uri"), catalog.column("pixel_hash"), strict=True))

        def check(batch: list[tuple[str, str | None]]) -> list[str | None]:
            return [self._fault(uri, recorded) for uri, recorded in batch]

        batches = [wanted[start : start + _BATCH] for start in range(0, len(wanted), _BATCH)]
        results = in_threads(check, batches, worker_count(workers))
        found = (reason for batch in results for reason in batch)
        return list(track(found, total=len(wanted), what="decoding", unit="image") if progress else found)

    def _fault(self, uri: str, recorded: str | None) -> str | None:
        try:
            image = self.open_image(uri)
        except UnreadableImage as error:
            return str(error)
        differs = recorded is not None and pixel_hash(image) != recorded
        return "its pixels are not the recorded ones" if differs else None


class BundledSource(ReleaseSource):
    """A release that comes along. `SEMPAIRS_DATA` names another folder to look for it in."""

    name: ClassVar[str]

    def __init__(self, rest: str = "") -> None:
        if rest:
            remedy = f"write {self.name}, or release:PATH"
            raise UserError(f"source {self.name}", "takes no path", rest, remedy)
        super().__init__(str(bundled_release(self.name)))
        self.spec = self.name


@source_kind("emoji-pairs", summary="one concept drawn by several designers (bundled)", example="emoji-pairs")
class EmojiPairsSource(BundledSource):
    """The bundled release of drawings."""

    name = "emoji-pairs"


@source_kind(
    "object-pairs",
    summary="one object seen from eight sides, by many makers (bundled)",
    example="object-pairs",
)
class ObjectPairsSource(BundledSource):
    """The bundled release of rendered objects."""

    name = "object-pairs"


def bundled_release(name: str = "emoji-pairs") -> Path:
    """The folder of a release of `BUNDLED`: in `SEMPAIRS_DATA`, in the installed package, or in the
    repository.

    Raises: UserError if it is in none of them; a `SEMPAIRS_DATA` that lacks it is not passed over.
    """
    given = os.environ.get("SEMPAIRS_DATA")
    if given:
        choices = [Path(given).expanduser() / name]
    else:
        package = Path(str(resources.files("sempairs")))
        choices = [package / DATA / name, package.parents[1] / DATA / name]
    for folder in choices:
        if (folder / ABOUT).is_file():
            return folder
    remedy = f"set SEMPAIRS_DATA to the folder that holds {name}, or install sempairs again"
    raise UserError(f"source {name}", "is not where it should be", str(choices[-1]), remedy)


def read_about(root: Path) -> dict[str, Any]:
    """What `release.json` says. Raises: UserError if `root` holds no release, or one of a later format."""
    if not (root / ABOUT).is_file():
        raise UserError(str(root), f"is no release: it has no {ABOUT}")
    about = read_json(root / ABOUT)
    if not isinstance(about, dict) or about.get("format") not in (FORMAT_1, FORMAT):
        got = about.get("format") if isinstance(about, dict) else about
        raise UserError(f"{root / ABOUT}: format", f"must be {FORMAT_1!r} or {FORMAT!r}", got)
    return about


def _check_complete(root: Path, about: dict[str, Any], found: int) -> None:
    """Raises: UserError if the files hold another number of images than were released: a shard is missing."""
    counts = about.get("counts")
    expected = counts.get("images") if isinstance(counts, dict) else None
    if isinstance(expected, int) and expected != found:
        remedy = "try `sempairs release verify`"
        raise UserError(str(root / DATA), f"must hold the {expected} images of the release", found, remedy)


def read_tables(root: Path, columns: list[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
    """Name and rows of each data file, by name; of its columns the given ones, or all but the image.

    Raises: UserError if there is none, or one is damaged or lacks a column.
    """
    import pyarrow.parquet as pq

    files = sorted(path for path in (root / DATA).glob("*.parquet") if not path.is_symlink())
    if not files:
        raise UserError(str(root / DATA), "must hold .parquet files, and has none")
    for file in files:
        try:
            with pq.ParquetFile(file, memory_map=True) as opened:
                wanted = columns or [name for name in opened.schema_arrow.names if name != IMAGE]
                table = opened.read(wanted)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise UserError(
                str(file), f"is damaged ({error})", remedy="try `sempairs release verify`"
            ) from None
        missing = set(wanted) - set(table.column_names)
        if missing:
            raise UserError(str(file), f"lacks the column {min(missing)}")
        yield file.name, table
