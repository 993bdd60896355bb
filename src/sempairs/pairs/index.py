"""The images of a catalogue in the order of their ids, and their labels as numbers.

All of pair building happens in this order, so nothing depends on the order in which rows came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sempairs.catalog.copies import components, repeated
from sempairs.catalog.table import Catalog

__all__ = ["ImageIndex", "Int", "Labels", "Mask", "Whole", "components", "runs", "small_int"]

#: Whole numbers, one an item: rows, positions or codes.
Int = NDArray[np.int64]
#: A type of whole numbers, as `small_int` chooses it.
Whole = type[np.int64]
#: True or false, one an item.
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Labels:
    """One label for each of n things: `codes` (n,) point into the sorted, distinct `names`; -1 is none."""

    codes: Int
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def known(self) -> Mask:
        return self.codes >= 0

    def take(self, items: Int) -> Labels:
        """The labels of some of the things; names that are no longer used stay."""
        return Labels(self.codes[items], self.names)

    def texts(self) -> list[str | None]:
        """The label of each thing, None where it has none."""
        return [self.names[code] if code >= 0 else None for code in self.codes]

    def counts(self) -> dict[str, int]:
        """How many things carry each label; labels that none carries are left out."""
        found = np.bincount(self.codes[self.known], minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, found, strict=True) if count}

    def renamed(self, rename: Callable[[str], str | None]) -> Labels:
        """Every label put through `rename`; labels that become equal are merged, None is no label."""
        new = [rename(name) for name in self.names]
        names = tuple(sorted({name for name in new if name is not None}))
        place = {name: code for code, name in enumerate(names)}
        kind = self.codes.dtype
        table = np.array([place[name] if name is not None else -1 for name in new] + [-1], dtype=kind)
        return Labels(table[self.codes], names)

    def otherwise(self, other: Labels) -> Labels:
        """These labels, and those of `other` where these have none."""
        names = tuple(sorted({*self.names, *other.names}))
        place = {name: code for code, name in enumerate(names)}
        kind = small_int(8 * len(names))
        ours, theirs = (np.array([place[n] for n in part.names] + [-1], kind) for part in (self, other))
        return Labels(np.where(self.known, ours[self.codes], theirs[other.codes]), names)


@dataclass(frozen=True, eq=False)
class ImageIndex:
    """A catalogue seen in the order of its ids. "Item" i is the image with the i-th smallest id."""

    catalog: Catalog
    known_picture: Int | None = None
    """`picture`, (n,), where more is known than this catalogue tells: see `restricted`."""

    def __len__(self) -> int:
        return len(self.catalog)

    @cached_property
    def rows(self) -> Int:
        """The catalogue row of each item, (n,)."""
        return self.catalog.order()

    @cached_property
    def ids(self) -> list[str]:
        """The image id of each item."""
        return [text for piece in self.id_pieces() for text in piece.to_pylist()]

    def id_pieces(self, items: Int | None = None) -> Iterator[pa.Array]:
        """The ids of all items, or of some, as Arrow has them, a part at a time: a list of a million takes a
        hundred megabytes."""
        return self.catalog.pieces("image_id", self.rows if items is None else self.rows[items])

    def items_of(self, rows: Int) -> Int:
        """The items that lie in the given catalogue rows."""
        place = np.empty(len(self), dtype=np.int64)
        place[self.rows] = np.arange(len(self))
        return place[rows]

    def restricted(self, items: Int) -> ImageIndex:
        """The index of some of the images only. Two that are one picture by way of a third stay one."""
        items = np.sort(items)
        _, first, inverse = np.unique(self.picture[items], return_index=True, return_inverse=True)
        return ImageIndex(self.catalog.select(self.rows[items]), first[inverse])

    def labels(self, column: str) -> Labels:
        """The values of a column (of any type, read as text) as labels of the items."""
        if pa.types.is_string(self.catalog.base.column(column).type):
            codes, names = self.catalog.coded(column)
        else:
            values = self.catalog.array(column).cast(pa.string())
            codes, names = Catalog(pa.table({column: values})).coded(column)
        order = sorted(range(len(names)), key=names.__getitem__)
        # Room for what is counted with them: group and split as one number.
        rank = np.full(len(names) + 1, -1, dtype=small_int(8 * len(names)))
        rank[order] = np.arange(len(names))
        return Labels(rank[codes][self.rows], tuple(names[i] for i in order))

    @cached_property
    def split(self) -> Int:
        """A number for each item's split; images without one form a split of their own."""
        return self.labels("split").codes

    @cached_property
    def picture(self) -> Int:
        """A number for each item, equal where two images are the same picture: by pixels or by file."""
        if self.known_picture is not None:
            return self.known_picture
        found = components(
            len(self), *(repeated(self.catalog, name, self.rows) for name in ("file_hash", "pixel_hash"))
        )
        return found.astype(small_int(len(self)))


def small_int(most: int) -> Whole:
    """The type of whole numbers up to `most`: half the bytes of `Int` where that is enough, for what is kept
    of millions of images. As far as types are checked it is the same."""
    return cast(Whole, np.int32 if most < 2**31 else np.int64)


def runs(*keys: Int) -> tuple[Int, Int]:
    """For sorted arrays of one length: start and length of the run of equal keys each position lies in."""
    n = len(keys[0])
    if n == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    new = np.zeros(n, dtype=bool)
    new[0] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    starts = np.flatnonzero(new)
    lengths = np.diff(np.append(starts, n))
    return np.repeat(starts, lengths), np.repeat(lengths, lengths)
