"""The same concept, or category, in another domain: any column says which."""

from __future__ import annotations

from typing import Literal

from sempairs.errors import UserError, unknown
from sempairs.pairs.config import RELATIONS, PairsConfig
from sempairs.pairs.index import ImageIndex
from sempairs.pairs.rules import Rule, needed


@RELATIONS.register
class CrossDomain(PairsConfig):
    """Two images of one concept, or category, that differ in a column of the catalogue."""

    description = "one concept in two domains"

    relation: Literal["cross_domain"] = "cross_domain"
    # The column in which the two images differ.
    domain_column: str = "domain"
    # What they share; left out, the concept, or the category where no image has a concept.
    meaning: Literal["concept", "category"] | None = None

    @property
    def domain(self) -> str:
        return self.domain_column

    def shared(self, index: ImageIndex) -> str:
        if self.meaning is not None:
            return self.meaning
        filled = index.labels("concept").known.any() or not index.labels("category").known.any()
        return "concept" if filled else "category"

    def rule(self, index: ImageIndex) -> Rule:
        meaning, column = self.shared(index), self.domain_column
        if column not in index.catalog.names:
            raise unknown("pairs.domain_column", column, index.catalog.names)
        if column == meaning:
            raise UserError("pairs.domain_column", "must differ from what the images share", column)
        shared, domain = needed(index, meaning, self), needed(index, column, self)
        empty = f"no {meaning} has different pictures in two values of {column!r}"
        return Rule(shared, domain, shared if meaning == "category" else index.labels("category"), empty)
