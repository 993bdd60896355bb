"""Images of the set that also lie in another split, or among the images of an evaluation set.

Two images are shared by file hash, by pixel hash, as near-copies (`sempairs.catalog.near_copies`), or by
`split_group` where they come from one source (names of groups mean nothing elsewhere). Of an evaluation set
with the splits validation or test only those images count: no others are scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sempairs.catalog.images import UnreadableImage, pixel_hash
from sempairs.catalog.near_copies import SKETCH_BYTES, near_copies, sketch
from sempairs.catalog.pictures import Pictures
from sempairs.catalog.sources.reading import in_threads, worker_count
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.pairs.audit.subject import Subject
from sempairs.progress import track

Mask = NDArray[np.bool_]
SHOWN = 20


@dataclass(frozen=True)
class Overlap:
    """name: of the evaluation set. scored: its images that count. files, pixels, groups: of these, the ones
    shared by that evidence; near: near-copies, None where pictures were not compared; images: by any."""

    name: str
    scored: int
    files: int
    pixels: int
    groups: int
    images: int
    first: list[str] = field(default_factory=list)
    near: int | None = None
    near_first: list[dict[str, object]] = field(default_factory=list)


@dataclass(frozen=True)
class Shared:
    """across_splits: images of the set that share a file, a picture, a near-copy or a group with one in
    another split of it; those without a split are in none. splits: images of the set by split. against: one
    entry an evaluation set. images: all together."""

    across_splits: int
    splits: dict[str, int]
    against: list[Overlap]
    images: int


def open_against(spec: str) -> Catalog:
    """The images of a source, or of a saved catalogue file. Raises: UserError if it is neither."""
    from sempairs.catalog.sources import open_source, scan_and_tell

    if Path(spec).is_file() and Path(spec).suffix in (".arrow", ".parquet"):
        return Catalog.open(spec)
    return scan_and_tell(open_source(spec), progress=True).catalog


def shared(
    subject: Subject,
    pixel_hashes: Sequence[str | None],
    against: Iterable[tuple[str, Catalog]],
    *,
    sketches: NDArray[np.uint8] | None = None,
    crossing_copies: Mask | None = None,
) -> Shared:
    """pixel_hashes, sketches: of the set's images, by item; without sketches no pictures are compared.
    crossing_copies: which have a near-copy in another split. against: names and images of evaluation sets."""
    images = subject.images
    split = images.column("split")
    evidence = [*zip(*_evidence(images, pixel_hashes), strict=True)]
    across = sum(_across(split, [row[kind] for row in evidence]) for kind in range(3))
    if crossing_copies is not None:
        across = across + crossing_copies
    overlaps = [_overlap(name, other, evidence, subject.ids, sketches) for name, other in against]
    names, counts = np.unique([str(s or "none") for s in split], return_counts=True)
    crossing = int(np.sum(across > 0))
    return Shared(
        across_splits=crossing,
        splits={str(name): int(count) for name, count in zip(names, counts, strict=True)},
        against=overlaps,
        images=crossing + sum(overlap.images for overlap in overlaps),
    )


Evidence = tuple[object, object, object]


def _evidence(images: Catalog, pixel_hashes: Sequence[str | None]) -> tuple[list[object], ...]:
    """For each image what may be shared: file hash, pixel hash, and the group within its source."""
    group, source = images.column("split_group"), images.column("source")
    named = [(s, g) if g is not None else None for s, g in zip(source, group, strict=True)]
    return list(images.column("file_hash")), list(pixel_hashes), list(named)


def _fingerprints(images: Catalog) -> list[tuple[str | None, NDArray[np.uint8]]] | None:
    """Pixel hash and sketch of each image, decoded once; nothing for one that cannot be read, None if the
    images are not where they were."""
    pictures = Pictures(images)

    def taken(row: int) -> tuple[str | None, NDArray[np.uint8]]:
        try:
            image = pictures.image(row)
        except UnreadableImage:
            return None, np.zeros(SKETCH_BYTES, dtype=np.uint8)
        return pixel_hash(image), sketch(image)

    try:
        found = in_threads(taken, range(len(images)), worker_count(None))
        return list(track(found, total=len(images), what="comparing pictures", unit="img"))
    except UserError:
        return None


def _across(split: NDArray[np.object_], values: Sequence[object]) -> NDArray[np.int64]:
    """1 for each image whose value is found in two splits, (n,); those without a split are in none."""
    found: dict[object, set[object]] = {}
    for value, name in zip(values, split, strict=True):
        if name is not None:
            found.setdefault(value, set()).add(name)
    shared = {value for value, names in found.items() if value is not None and len(names) > 1}
    return np.array(
        [value in shared and name is not None for value, name in zip(values, split, strict=True)],
        dtype=np.int64,
    )


def _overlap(
    name: str,
    other: Catalog,
    evidence: Sequence[tuple[object, ...]],
    our_ids: Sequence[str],
    sketches: NDArray[np.uint8] | None,
) -> Overlap:
    held_out = np.array([split in ("validation", "test") for split in other.column("split")], dtype=bool)
    scored = other.select(held_out) if held_out.any() else other
    ours = [{row[kind] for row in evidence} - {None} for kind in range(3)]
    their_pixels = list(scored.column("pixel_hash"))
    near, near_count, near_first = np.zeros(len(scored), dtype=bool), None, []
    ids = scored.column("image_id")
    if sketches is not None:
        found = _fingerprints(scored)
        if found is not None:
            their_pixels = [given or own for given, (own, _) in zip(their_pixels, found, strict=True)]
            copies = near_copies(np.stack([drawn for _, drawn in found]), sketches, shown=len(scored) > 2000)
            near[copies.left] = True
            near_count = int(near.sum())
            near_first = [
                {
                    "image": str(ids[copies.left[at]]), "of": str(our_ids[copies.right[at]]),
                    "how": copies.how(at), "difference": round(float(copies.difference[at]), 3),
                }
                for at in range(min(SHOWN, len(copies)))
            ]  # fmt: skip
    theirs = _evidence(scored, their_pixels)
    files, pixels, groups = (
        np.array([value in known for value in values], dtype=bool)
        for values, known in zip(theirs, ours, strict=True)
    )
    # An image that is shared by content brings its group along, whatever ours is called.
    reached = {theirs[2][i] for i in np.flatnonzero(files | pixels)} - {None}
    groups |= np.array([value in reached for value in theirs[2]], dtype=bool)
    either = files | pixels | groups | near
    return Overlap(
        name, len(scored), int(files.sum()), int(pixels.sum()), int(groups.sum()), int(either.sum()),
        [str(ids[i]) for i in np.flatnonzero(either)[:5]], near_count, near_first,
    )  # fmt: skip
