"""Reading many images at once: shared by all sources that are scanned file by file or member by member."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from PIL import Image

from sempairs.catalog import images
from sempairs.catalog.images import UnreadableImage
from sempairs.catalog.sources.base import Problem, Scan
from sempairs.catalog.table import SCHEMA, Catalog
from sempairs.errors import UserError
from sempairs.files import resolve_inside, sha256_bytes
from sempairs.progress import track

# Files are read whole to be hashed; nothing that is meant as one picture comes near this.
MAX_FILE_BYTES = 1 << 30
# What folders and shards called like this mean for the split of the images in them.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_TASK = 32
# What programs write where a label is missing.
_MISSING = ("nan", "none", "null", "<na>", "n/a")

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Member:
    """An image before it was read: its `uri` in the source, its id, and any columns known beforehand."""

    uri: str
    image_id: str
    columns: Mapping[str, str | None] = field(default_factory=dict)


class Measured(NamedTuple):
    """What reading an image tells: `pixel_hash` only where it was decoded."""

    file_hash: str
    width: int
    height: int
    pixel_hash: str | None


def measure_bytes(data: bytes, *, decode: bool) -> Measured:
    """Hash and size of an image file's bytes. Raises: UnreadableImage, as `images.header` and `decode`."""
    found = images.header(data)
    pixels = images.pixel_hash(images.decode(data)) if decode else None
    return Measured(sha256_bytes(data), found.width, found.height, pixels)


def measure_pixels(image: Image.Image, stored: bytes, *, decode: bool) -> Measured:
    """The same for an image that is stored as bare pixels: `stored` is what takes the place of a file."""
    pixels = images.pixel_hash(image) if decode else None
    return Measured(sha256_bytes(stored), image.width, image.height, pixels)


def scan_members(
    spec: str,
    members: Sequence[Member],
    measure: Callable[[str], Measured],
    *,
    workers: int | None,
    progress: bool,
    problems: Iterable[Problem] = (),
    ignored: int = 0,
    notes: Iterable[str] = (),
) -> Scan:
    """Measures all members (by `uri`) in threads and makes the catalogue; failures become problems.

    Raises: UserError if there are no members and nothing was reported that would say why.
    """
    found = list(problems)
    if not members and not found:
        passed = f" ({ignored} other files passed over)" if ignored else ""
        raise UserError(f"source {spec}", f"must hold images, and has none{passed}")
    extra = sorted({name for member in members for name in member.columns} - set(SCHEMA.names))
    names = [name for name in SCHEMA.names if name != "source"] + extra
    columns: dict[str, list[object]] = {name: [] for name in names}
    for member, result in _measure_all(members, measure, workers, progress):
        if isinstance(result, Problem):
            found.append(result)
            continue
        row = {**member.columns, **result._asdict(), "image_id": member.image_id, "uri": member.uri}
        for name in names:
            columns[name].append(row.get(name))
    columns["source"] = [spec] * len(columns["image_id"])
    for name in extra:  # all null would otherwise leave a column without a type
        columns[name] = [None if value is None else str(value) for value in columns[name]]
    catalog = Catalog.from_columns(columns).in_order()
    return Scan(catalog, tuple(sorted(found, key=_place)), ignored, (*notes, *odd_categories(catalog)))


def odd_categories(catalog: Catalog) -> list[str]:
    """A note on each two categories that differ in upper and lower case or in blanks only, and on each that
    is what programs write for a label that is missing."""
    found: dict[str, str] = {}
    notes = []
    for name in sorted(catalog.array("category").unique().drop_null().to_pylist()):
        if name.casefold() in _MISSING:
            notes.append(f"the category {name!r} is a class like others, and may be meant as no label")
        first = found.setdefault("".join(name.casefold().split()), name)
        if first != name:
            notes.append(f"the categories {first!r} and {name!r} are two, and look alike")
    return notes


def _place(problem: Problem) -> tuple[str, str]:
    return problem.where, problem.reason


def _measure_all(
    members: Sequence[Member], measure: Callable[[str], Measured], workers: int | None, progress: bool
) -> Iterator[tuple[Member, Measured | Problem]]:
    def work(batch: Sequence[Member]) -> list[tuple[Member, Measured | Problem]]:
        return [(member, attempt(member)) for member in batch]

    def attempt(member: Member) -> Measured | Problem:
        try:
            return measure(member.uri)
        except UnreadableImage as error:
            return Problem(member.uri, str(error))

    batches = (members[start : start + _TASK] for start in range(0, len(members), _TASK))
    results = itertools.chain.from_iterable(in_threads(work, batches, worker_count(workers)))
    if progress:
        return iter(track(results, total=len(members), what="scanning", unit="image"))
    return results


def worker_count(workers: int | None) -> int:
    """Threads to use: the given number, else two a core up to 32, since half of the time is waiting.

    Raises: UserError if it is below 1.
    """
    if workers is None:
        return min(32, 2 * len(os.sched_getaffinity(0)))
    if workers < 1:
        raise UserError("workers", "must be at least 1", workers)
    return workers


def in_threads(work: Callable[[A], R], items: Iterable[A], workers: int) -> Iterator[R]:
    """`map` in threads: results in order, and never more than a few items ahead of the consumer."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # the consumer stopped, or an item failed: do not start the rest
            for future in waiting:
                future.cancel()


def read_inside(root: Path, name: str) -> bytes:
    """The bytes of the regular file `name` (relative) under `root`.

    Raises: UnreadableImage if it is absent, leaves the root, is no regular file, too big, or unreadable.
    """
    try:
        path = resolve_inside(root, name)
        if not path.exists():
            raise UnreadableImage("no such file")
        if not path.is_file():  # opening a pipe would wait for ever
            raise UnreadableImage("not a regular file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UnreadableImage(f"larger than {MAX_FILE_BYTES >> 20} MiB")
        return path.read_bytes()
    except UserError as error:
        raise UnreadableImage(error) from None
    except OSError as error:
        raise UnreadableImage(error.strerror or error) from None
