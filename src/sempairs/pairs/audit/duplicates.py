"""Exact duplicates by hash, and pairs whose two pictures are nearly the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sempairs.catalog.near_copies import NearCopies, compared
from sempairs.pairs.audit.pixels import CHUNK, SIDE, SmallPictures
from sempairs.pairs.audit.subject import Subject
from sempairs.pairs.index import Int, Labels

THRESHOLD = 0.10
SHOWN = 20
Real = NDArray[np.float64]


@dataclass(frozen=True)
class ExactDuplicates:
    """files, pixels: images whose file or decoded picture another image of the set has too. pairs: pairs
    whose two images are the same by file or by picture. hashed: images whose pixel hash is known."""

    files: int
    pixels: int
    pairs: int
    images: int
    hashed: int


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of nearly one picture: `alike` as they are, or `copies` by `near_copies.compared`, which also
    finds what is mirrored, turned or cropped.

    alike: pairs whose root mean square difference is below `threshold` (of a range of 1) both in colour on a
    white ground and in opacity, at `size` pixels a side. alike_on_white: below it in colour alone, as two
    white drawings are. measured: pairs of which both images could be decoded."""

    size: int
    threshold: float
    measured: int
    pairs: int
    share: float | None
    alike_on_white: int
    unreadable: int
    alike: int = 0
    copies: int = 0
    unreadable_first: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CopiesInSet:
    """Near-copies among all images of a set, whether or not they are paired. pairs of images: those found;
    images: those that are in one; across_splits: images with a near-copy in another split; first: some, with
    what they differ by and how much (1 is the most that counts)."""

    pairs: int
    images: int
    across_splits: int
    first: list[dict[str, object]] = field(default_factory=list)


def copies_in_set(subject: Subject, found: NearCopies) -> tuple[CopiesInSet, NDArray[np.bool_]]:
    """What `near_copies` found among the images, and which images have one in another split, (n,)."""
    split = subject.images.column("split")
    known = np.array([name is not None for name in split], dtype=bool)
    apart = known[found.left] & known[found.right] & (split[found.left] != split[found.right])
    crossing = np.zeros(len(split), dtype=bool)
    crossing[found.left[apart]] = crossing[found.right[apart]] = True
    order = np.argsort(~apart, kind="stable")[:SHOWN]
    first: list[dict[str, object]] = [
        {
            "images": [str(subject.ids[found.left[at]]), str(subject.ids[found.right[at]])],
            "how": found.how(int(at)), "difference": round(float(found.difference[at]), 3),
            "across_splits": bool(apart[at]),
        }
        for at in order
    ]  # fmt: skip
    images = len(np.unique(np.concatenate([found.left, found.right])))
    return CopiesInSet(len(found), images, int(crossing.sum()), first), crossing


def exact_duplicates(subject: Subject, pixel_hashes: Sequence[str | None]) -> ExactDuplicates:
    """pixel_hashes: by item, None where unknown."""
    file = subject.pairs.index.labels("file_hash")
    pixel = _labels(pixel_hashes)
    anchor, partner = subject.anchor[subject.distinct], subject.partner[subject.distinct]
    same = file.codes[anchor] == file.codes[partner]
    same |= (pixel.codes[anchor] == pixel.codes[partner]) & pixel.known[anchor]
    return ExactDuplicates(
        files=_repeated(file), pixels=_repeated(pixel), pairs=int(same.sum()),
        images=len(file), hashed=int(pixel.known.sum()),
    )  # fmt: skip


def differences(subject: Subject, small: SmallPictures) -> tuple[Real, Real]:
    """Root mean square difference of each distinct pair in colour on white and in opacity, (P,) each; NaN
    where an image could not be decoded."""
    anchor, partner = subject.anchor[subject.distinct], subject.partner[subject.distinct]
    colour, opacity = np.empty(len(anchor)), np.empty(len(anchor))
    for start in range(0, len(anchor), CHUNK):
        at = slice(start, start + CHUNK)
        apart = small.on_white(anchor[at]) - small.on_white(partner[at])
        colour[at] = np.sqrt((apart**2).mean(axis=(1, 2, 3)))
        opacity[at] = np.sqrt(((small.alpha(anchor[at]) - small.alpha(partner[at])) ** 2).mean(axis=(1, 2)))
    lost = np.isin(anchor, _items(small)) | np.isin(partner, _items(small))
    colour[lost] = opacity[lost] = np.nan
    return colour, opacity


def near_duplicates(
    subject: Subject, small: SmallPictures, colour: Real, opacity: Real
) -> tuple[NearDuplicates, Int]:
    """The count, and the rows of those pairs, the closest first."""
    worst = np.maximum(colour, opacity)
    anchor, partner = subject.anchor[subject.distinct], subject.partner[subject.distinct]
    copy = compared(small.sketches, anchor, partner)
    alike, copied = worst < THRESHOLD, (copy <= 1) & ~np.isnan(worst)
    near = np.flatnonzero(alike | copied)
    least = np.fmin(worst / THRESHOLD, copy)
    near = near[np.argsort(least[near], kind="stable")]
    measured = int((~np.isnan(worst)).sum())
    found = NearDuplicates(
        size=SIDE, threshold=THRESHOLD, measured=measured, pairs=len(near),
        share=len(near) / measured if measured else None, alike=int(alike.sum()), copies=int(copied.sum()),
        alike_on_white=int((colour < THRESHOLD).sum()), unreadable=len(small.unreadable),
        unreadable_first=[f"{subject.ids[item]}: {reason}" for item, reason in small.unreadable[:5]],
    )  # fmt: skip
    return found, subject.distinct[near]


def _items(small: SmallPictures) -> Int:
    return np.array([item for item, _ in small.unreadable], dtype=np.int64)


def _labels(values: Sequence[str | None]) -> Labels:
    names = tuple(sorted({value for value in values if value is not None}))
    place = {name: code for code, name in enumerate(names)}
    return Labels(np.array([place[v] if v is not None else -1 for v in values], dtype=np.int64), names)


def _repeated(labels: Labels) -> int:
    return sum(count for count in labels.counts().values() if count > 1)
