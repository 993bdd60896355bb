"""What an audit looks at: the pairs of a set as items of its index, and what each pair claims to share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.pairs.index import Int, Labels
from sempairs.pairs.rules import class_labels
from sempairs.pairs.sample import partner_items
from sempairs.pairs.select import meaning_of_all
from sempairs.pairs.table import PairSet


@dataclass(frozen=True, eq=False)
class Subject:
    """All by row (N,) or, where it says so, by item of the index (n,).

    distinct: rows of the distinct pairs of two images, ascending. Pairs of an image with itself cannot be
    near-duplicates or false and are in none of the checks that ask for that.
    """

    pairs: PairSet
    anchor: Int
    partner: Int
    relation: tuple[str, ...]
    distinct: Int

    @classmethod
    def of(cls, pairs: PairSet) -> Subject:
        """Raises: UserError if there is no pair of two images."""
        anchor, partner = pairs.anchor, partner_items(pairs)
        low, high = np.minimum(anchor, partner), np.maximum(anchor, partner)
        _, first = np.unique(low * len(pairs.index) + high, return_index=True)
        distinct = np.sort(first[anchor[first] != partner[first]]).astype(np.int64)
        if not len(distinct):
            remedy = "audit the folder of semantic pairs that a baseline lies in"
            raise UserError("pairs", "must hold a pair of two images to be audited", remedy=remedy)
        return cls(pairs, anchor, partner, tuple(pairs.relation), distinct)

    def __len__(self) -> int:
        return len(self.anchor)

    @property
    def drawn(self) -> bool:
        """Whether partners were drawn for this audit, as the set is a redrawn pool."""
        return bool((self.pairs.partner < 0).any())

    @property
    def ids(self) -> Sequence[str]:
        """The image id of each item."""
        return self.pairs.index.ids

    @cached_property
    def images(self) -> Catalog:
        """The images in the order of the items."""
        return self.pairs.catalog.select(self.pairs.index.rows)

    @cached_property
    def meaning_of(self) -> Labels:
        """What each item means, as the relation has it."""
        index = self.pairs.index
        rule = self.pairs.config.rule(index)
        return meaning_of_all(index, rule.meaning, (self.anchor, self.partner))

    @cached_property
    def meaning(self) -> Labels:
        """What each row's pair claims to share: the meaning of its anchor."""
        return self.meaning_of.take(self.anchor)

    @cached_property
    def category(self) -> Labels:
        """The class each row counts towards; may be unknown."""
        index = self.pairs.index
        return class_labels(index, self.pairs.config.rule(index)).take(self.anchor)

    def key(self, row: int) -> tuple[str, str]:
        """The canonical ids of a row's pair."""
        one, other = self.ids[self.anchor[row]], self.ids[self.partner[row]]
        return (one, other) if one < other else (other, one)

    def text(self, column: str) -> list[str | None] | None:
        """A text column by item, None if the catalogue has no such column or it is empty."""
        if column not in self.images.table.column_names:
            return None
        labels = self.pairs.index.labels(column)
        return labels.texts() if labels.known.any() else None
