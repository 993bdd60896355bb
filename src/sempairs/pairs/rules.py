"""Rules of relations: who may be whose partner, by columns of the catalogue.

Most relations are "one group, two blocks": both images lie in one group (a category, ancestor or concept) and
in two blocks of it (leaf categories, domains, concepts). Three rules stand over all of them: one split, two
images, two pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from sempairs.errors import UserError
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.index import ImageIndex, Int, Labels


@dataclass(frozen=True)
class Rule:
    """A relation applied to the images of an index; all by item.

    meaning: what both images of a pair share. block: what they differ in, None where different pictures are
    enough. category: the finest category both share, -1 where unknown. empty: why there may be no pair.
    """

    meaning: Labels
    block: Labels | None
    category: Labels
    empty: str


def by_own_labels(index: ImageIndex) -> Rule:
    """The rule of pairs that no column decides: meaning is the concept, else the category, else unknown."""
    category = index.labels("category")
    concept = index.labels("concept").renamed(lambda name: f"concept {name}")
    meaning = concept.otherwise(category.renamed(lambda name: f"category {name}"))
    return Rule(meaning, None, category, "there are no images")


def class_labels(index: ImageIndex, rule: Rule) -> Labels:
    """What limits and histograms count by: the finest shared category, else the concept; may be unknown."""
    return rule.category.otherwise(index.labels("concept"))


def groups(index: ImageIndex, rule: Rule) -> tuple[Int, Int]:
    """Group and block of every item, (n,) each, for `GroupDraws` and `disjoint_pairs`; group -1 is none."""
    splits = int(index.split.max(initial=-1)) + 2
    known = rule.meaning.known if rule.block is None else rule.meaning.known & rule.block.known
    group = rule.meaning.codes * splits + index.split + 1
    group[~known] = -1
    return group, index.picture if rule.block is None else rule.block.codes


def needed(index: ImageIndex, column: str, config: PairsConfig) -> Labels:
    """The labels in a column that a relation cannot do without. Raises: UserError if no image has one."""
    try:
        labels = index.labels(column)
    except pa.ArrowException:
        kind = str(index.catalog.base.schema.field(column).type)
        raise UserError(f"catalog.{column}", "must hold texts or numbers to pair images by", kind) from None
    if not labels.known.any():
        raise UserError(
            f"pairs.relation {config.relation}",
            f"needs the column {column!r}, which no image of the catalogue has",
            remedy=f"give a source with a {column}, as csv: and parquet: may have, or another relation",
        )
    return labels
