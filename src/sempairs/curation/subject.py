"""The pairs that are judged: every distinct pair of two images of one set, by number."""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sempairs import keyed
from sempairs.errors import UserError
from sempairs.pairs.index import Int, Labels
from sempairs.pairs.sample import audit_sample, partner_items
from sempairs.pairs.table import PairSet

DOUBT = "audit/doubt.parquet"
STREAM = "curation-order"


class Subject:
    """Pairs of two images, sorted by their canonical ids: pair p has the items low[p] < high[p] of `index`.

    low, high, row: (P,); row is the first row of the set that holds the pair. Images paired with themselves
    are no question and are left out. Nothing is kept a pair but numbers.
    Raises: UserError if there is no pair of two images.
    """

    def __init__(self, pairs: PairSet, folder: str | Path) -> None:
        self.pairs, self.folder = pairs, Path(folder)
        self.index = pairs.index
        anchor, partner = pairs.anchor, partner_items(pairs)
        low, high = np.minimum(anchor, partner), np.maximum(anchor, partner)
        code, row = np.unique(low * len(self.index) + high, return_index=True)
        two = low[row] != high[row]
        self._code, self.row = code[two], row[two].astype(np.int64)
        self.low, self.high = low[self.row], high[self.row]
        if not len(self.row):
            rule = "pairs every image with itself: there is nothing to judge"
            raise UserError(str(folder), rule, remedy="give the folder of semantic pairs it is a baseline of")

    def __len__(self) -> int:
        return len(self.row)

    def numbers(self, first: list[str], second: list[str]) -> Int:
        """The number of each pair of image ids, in either order, (n,); -1 for one that is not in the set."""
        a, b = self._items(first), self._items(second)
        wanted = np.minimum(a, b) * len(self.index) + np.maximum(a, b)
        place = np.minimum(np.searchsorted(self._code, wanted), len(self) - 1)
        return np.where((a >= 0) & (b >= 0) & (self._code[place] == wanted), place, -1)

    def ids(self, number: int) -> tuple[str, str]:
        """The canonical ids of a pair."""
        return self.index.ids[self.low[number]], self.index.ids[self.high[number]]

    def catalogue_row(self, item: int) -> int:
        return int(self.index.rows[item])

    @cached_property
    def order(self) -> Int:
        """All pairs in a keyed random order, (P,)."""
        return keyed.permutation(0, STREAM, n=len(self))

    @cached_property
    def place(self) -> Int:
        """Where in `order` each pair lies, (P,)."""
        place = np.empty(len(self), dtype=np.int64)
        place[self.order] = np.arange(len(self))
        return place

    @cached_property
    def classes(self) -> Labels:
        """The class each pair counts towards, (P,)."""
        return self.pairs.category.take(self.row)

    @cached_property
    def class_codes(self) -> dict[str, int]:
        """The code in `classes` of every class that a pair has."""
        held = self.classes.counts()
        return {name: code for code, name in enumerate(self.classes.names) if name in held}

    def relation(self, number: int) -> str:
        return str(self.pairs.table.column("relation")[int(self.row[number])].as_py())

    def sample(self, size: int) -> Int:
        """The pairs of the audit's random sample, in its order."""
        number = np.full(len(self.pairs), -1, dtype=np.int64)
        number[self.row] = np.arange(len(self))
        found = number[audit_sample(self.pairs, size)]
        return found[found >= 0]

    def _items(self, ids: list[str]) -> Int:
        known = self.index.ids
        found = np.empty(len(ids), dtype=np.int64)
        for at, name in enumerate(ids):
            place = bisect_left(known, name)
            found[at] = place if place < len(known) and known[place] == name else -1
        return found


class Doubts:
    """How doubtful the audit found each pair, and why; `order` is empty where there was no audit.

    order: pairs, most doubtful first, (D,). Raises: UserError if the file is not what audits write.
    """

    def __init__(self, subject: Subject) -> None:
        self.order = np.empty(0, dtype=np.int64)
        self._row = np.full(len(subject), -1, dtype=np.int64)
        self._table: pa.Table | None = None
        file = subject.folder / DOUBT
        if not file.is_file():
            return
        try:
            table = pq.read_table(file, columns=["anchor", "partner", "doubt", "rank", "evidence"])
            table = table.sort_by("rank")
            number = subject.numbers(table.column("anchor").to_pylist(), table.column("partner").to_pylist())
            self._doubt = table.column("doubt").to_numpy().astype(float)
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            remedy = "run `sempairs pairs audit` again, or remove the file"
            raise UserError(str(file), f"is not what an audit writes ({error})", remedy=remedy) from None
        known = np.flatnonzero(number >= 0)
        self.order, self._table = number[known], table
        self._row[self.order] = known

    def of(self, number: int) -> tuple[float | None, list[str]]:
        """Doubt in [0, 1] and the evidence for it; None and [] where the audit said nothing."""
        row = int(self._row[number])
        if row < 0 or self._table is None:
            return None, []
        return float(self._doubt[row]), self._table.column("evidence")[row].as_py() or []
