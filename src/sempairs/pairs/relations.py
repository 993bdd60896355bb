"""Who may be whose partner, one rule a relation.

Every relation but `neighbour`, `listed` and `augmented` is "one group, two blocks": both images lie in one
group (a category, ancestor or concept) and in two blocks of it (leaf categories, domains, concepts). Three
rules stand over them all: one split, two images, two pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa

from sempairs.catalog.taxonomy import segments, top
from sempairs.errors import UserError, unknown
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.index import ImageIndex, Int, Labels
from sempairs.registry import Registry


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


Relation = Callable[[ImageIndex, PairsConfig], Rule]
RELATIONS: Registry[Relation] = Registry("relation")


def relation_name(config: PairsConfig) -> str:
    """The relation as pairs carry it, `sibling(2)` for instance."""
    return f"sibling({config.depth})" if config.relation == "sibling" else config.relation


@RELATIONS.register("same_category")
def same_category(index: ImageIndex, config: PairsConfig) -> Rule:
    """Another image of the same leaf category."""
    category = _needed(index, "category", config)
    return Rule(category, None, category, "no category has two different pictures")


@RELATIONS.register("sibling")
def sibling(index: ImageIndex, config: PairsConfig) -> Rule:
    """An image of a different leaf under the ancestor `depth` levels up. The root is nobody's ancestor."""
    leaf = _needed(index, "category", config)
    ancestor = leaf.renamed(lambda path: _ancestor(path, config.depth))
    if not ancestor.known.any():
        deepest = max(len(segments(path)) for path in leaf.names)
        rule = f"needs category paths more than {config.depth} deep (the deepest here has {deepest})"
        raise UserError(
            "pairs.relation sibling", rule, remedy="give nested categories such as animal/mammal/cat"
        )
    empty = f"no two leaf categories share the ancestor {config.depth} up"
    return Rule(ancestor, leaf, ancestor, empty)


@RELATIONS.register("cross_domain")
def cross_domain(index: ImageIndex, config: PairsConfig) -> Rule:
    """The same concept, or category, in another domain: any column says which."""
    meaning = shared_column(index, config)
    column = config.domain_column
    if column not in index.catalog.names:
        raise unknown("pairs.domain_column", column, index.catalog.names)
    if column == meaning:
        raise UserError("pairs.domain_column", "must differ from what the images share", column)
    shared = _needed(index, meaning, config)
    domain = _needed(index, column, config)
    empty = f"no {meaning} has different pictures in two values of {column!r}"
    return Rule(shared, domain, shared if meaning == "category" else index.labels("category"), empty)


def shared_column(index: ImageIndex, config: PairsConfig) -> str:
    """The column that images paired across domains share: as configured, else the finest that is filled."""
    if config.meaning is not None:
        return config.meaning
    filled = index.labels("concept").known.any() or not index.labels("category").known.any()
    return "concept" if filled else "category"


@RELATIONS.register("random_same_category")
def random_same_category(index: ImageIndex, config: PairsConfig) -> Rule:
    """The same top category, another concept: what pairs bring that know the label and nothing finer."""
    category = _needed(index, "category", config).renamed(top)
    concept = _needed(index, "concept", config)
    return Rule(category, concept, category, "no top category has different pictures of two concepts")


@RELATIONS.register("augmented")
@RELATIONS.register("listed")
def labelled(index: ImageIndex, config: PairsConfig) -> Rule:
    """Pairs that no column decides: meaning is the concept, else the category, else unknown."""
    category = index.labels("category")
    concept = index.labels("concept").renamed(lambda name: f"concept {name}")
    meaning = concept.otherwise(category.renamed(lambda name: f"category {name}"))
    return Rule(meaning, None, category, "there are no images")


@RELATIONS.register("neighbour")
def neighbour(index: ImageIndex, config: PairsConfig) -> Rule:
    """Pairs mined from embeddings. In a pool, images without a label mean nothing but themselves: all that
    hang together by some neighbour would soon be everyone."""
    rule = labelled(index, config)
    if config.mode == "redrawn":
        own = Labels(index.picture, tuple(f"image {name}" for name in index.ids))
        rule = replace(rule, meaning=rule.meaning.otherwise(own))
    return rule


def rule_of(index: ImageIndex, config: PairsConfig) -> Rule:
    """The configured relation. Raises: UserError if a column it needs is empty or absent."""
    return RELATIONS.get(config.relation)(index, config)


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


def _ancestor(path: str, depth: int) -> str | None:
    parts = segments(path)
    return "/".join(parts[:-depth]) if len(parts) > depth else None


def _needed(index: ImageIndex, column: str, config: PairsConfig) -> Labels:
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
