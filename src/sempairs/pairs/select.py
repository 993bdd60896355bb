"""The semantic set that every arm derives from: which pairs, or which pool, a configuration asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sempairs import keyed
from sempairs.errors import UserError
from sempairs.pairs import modifiers
from sempairs.pairs.config import PairsConfig
from sempairs.pairs.draw import Draws, GroupDraws, ListDraws, RankedDraws
from sempairs.pairs.index import ImageIndex, Int, Labels, components, runs, small_int
from sempairs.pairs.matching import LIMIT, STREAM, disjoint_pairs
from sempairs.pairs.rules import Rule, class_labels, groups
from sempairs.progress import tell

AUGMENTED, CORRUPTED = "augmented", "corrupted"
#: Candidates that choices can list: a gigabyte of them.
MOST_CANDIDATES = 1 << 28
_LISTED = 1 << 20  # candidates looked at at once


@dataclass(frozen=True, eq=False)
class Selection:
    """The pairs of an epoch in occurrence order, sorted by the ids of anchor and partner; (N,) each, by item.

    partner: -1 where `draws` gives it, anew each epoch. true_partner: the partner before corruption.
    relation: a number into `relations`. meaning, category: what the pair shares; the latter may be unknown.
    edges: the list that `draws` draws from, for redrawn lists; edge_score: (E,). mining: for pairs mined from
    embeddings, their hash, their encoder and how the neighbours were searched; `chosen_by`: the features that
    partners are chosen by.
    """

    index: ImageIndex
    config: PairsConfig
    anchor: Int
    partner: Int
    true_partner: Int
    relation: Int
    relations: tuple[str, ...]
    score: NDArray[np.float64]
    meaning: Labels
    category: Labels
    draws: Draws | None = None
    edges: tuple[Int, Int] | None = None
    edge_score: NDArray[np.float64] | None = None
    mining: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.anchor)

    def shown(self, arm: str) -> Int:
        """The items that an arm can show, sorted. Partners drawn anew are themselves anchors."""
        partner = {"semantic": self.partner, "image_matched": self.true_partner}.get(arm, self.anchor)
        return np.unique(np.concatenate([self.anchor, partner[partner >= 0]]))


def select(index: ImageIndex, config: PairsConfig) -> Selection:
    """The semantic set of `config`; its `arm` is not read.

    Raises: UserError if there is no image or no pair, or a column, list or class that is needed is not there.
    """
    if not len(index):
        raise UserError("pairs", "needs images, and the catalogue has none")
    found = config.select(index)
    found = by_rule(index, config) if found is None else found
    return choose(found, config) if config.choices else found


def choose(selection: Selection, config: PairsConfig) -> Selection:
    """The selection with the partners that `config.choices` leave, in their order; anchors that are left
    without one go.

    Raises: UserError if none is left, a column or feature is not there, or there are too many candidates.
    """
    index, draws = selection.index, selection.draws
    if draws is None:  # of one image twice
        return selection
    anchors = selection.anchor
    total = int(draws.count[anchors].sum())
    if total > MOST_CANDIDATES:
        rule = f"must have at most {MOST_CANDIDATES:,} candidates to choose from, all anchors together"
        raise UserError("pairs.choices", rule, f"{total:,}", "limit the pool by pairs.count or per_class")
    about: dict[str, Any] = {}
    for choice in config.choices:
        about |= choice.about(index)
    rules = [fit for choice in config.choices if (fit := choice.allowed(index)) is not None]
    ranks = [rank for choice in config.choices if (rank := choice.order(index)) is not None]
    tie = keyed.text_keys(config.seed, STREAM, index.id_pieces())
    kind = small_int(len(index))
    items, candidates = [np.empty(0, dtype=kind)], [np.empty(0, dtype=kind)]
    ends = np.cumsum(draws.count[anchors])
    cuts = np.searchsorted(ends, np.arange(_LISTED, total, _LISTED))
    for some in np.split(anchors, np.unique(cuts)):
        count = draws.count[some]
        item = np.repeat(some, count)
        number = np.arange(len(item)) - np.repeat(np.cumsum(count) - count, count)
        candidate = draws.pick(item, number)
        for fit in rules:
            # An image that is listed with itself, for want of another, stays so.
            kept = fit(item, candidate) | (item == candidate)
            item, candidate = item[kept], candidate[kept]
        orders = [rank(item, candidate) for rank in ranks]
        place = np.lexsort((tie[candidate], *orders, item))
        items.append(item[place].astype(kind))
        candidates.append(candidate[place].astype(kind))
    chosen = RankedDraws(len(index), np.concatenate(items), np.concatenate(candidates))
    left = chosen.count[anchors] > 0
    if not left.any():
        names = ", ".join(choice.name for choice in config.choices)
        rule = f"({names}) leaves none of {len(anchors)} anchors a partner"
        raise UserError("pairs.choices", rule, remedy="ask less of partners, or take another relation")
    if not left.all():
        tell(f"pairs.choices leaves {int((~left).sum())} of {len(left)} anchors without a partner: left out")
    mining = {**(selection.mining or {}), **({"chosen_by": about} if about else {})}
    return replace(
        selection,
        config=selection.config.model_copy(update={"choices": config.choices}),
        anchor=anchors[left],
        partner=selection.partner[left],
        true_partner=selection.true_partner[left],
        relation=selection.relation[left],
        score=selection.score[left],
        meaning=selection.meaning.take(np.flatnonzero(left)),
        category=selection.category.take(np.flatnonzero(left)),
        draws=chosen,
        mining=mining or None,
    )


def by_rule(index: ImageIndex, config: PairsConfig) -> Selection:
    """The set that the rule of a relation gives: a pool, or as many image-disjoint pairs as there can be."""
    rule = config.rule(index)
    group, block = groups(index, rule)
    if config.mode == "redrawn":
        return _pool(index, config, rule, group, block)
    anchor, partner = _disjoint(index, config, rule, group, block)
    return compose(index, config, rule, anchor, partner)


def compose(
    index: ImageIndex,
    config: PairsConfig,
    rule: Rule,
    anchor: Int,
    partner: Int,
    *,
    relation: tuple[Int, tuple[str, ...]] | None = None,
    score: NDArray[np.float64] | None = None,
    draws: Draws | None = None,
    edges: tuple[Int, Int] | None = None,
    edge_score: NDArray[np.float64] | None = None,
    mining: Mapping[str, Any] | None = None,
) -> Selection:
    """The selection of given pairs, sorted by anchor and partner, after the modifiers are applied."""
    if score is None:
        score = np.broadcast_to(np.nan, len(anchor))
    codes, names = relation or (np.broadcast_to(np.int64(0), len(anchor)), (config.label,))
    names = (*names, AUGMENTED, CORRUPTED)
    true_partner = partner
    if edges is not None:
        # Images listed with themselves, for want of another, always draw themselves.
        alone = edges[0][edges[0] == edges[1]]
        codes = np.where(np.isin(anchor, alone), len(names) - 2, codes)
    meaning = meaning_of_all(index, rule.meaning, edges or (anchor, partner))
    if config.mixed_always is not None and draws is None:
        stays = modifiers.kept(len(anchor), share=config.mixed_always, seed=config.seed)
        partner = true_partner = np.where(stays, partner, anchor)
        codes, score = np.where(stays, codes, len(names) - 2), np.where(stays, score, np.nan)
    if config.corrupted is not None:
        partner, false = modifiers.corrupt(
            index, anchor, partner, rule.category, share=config.corrupted, seed=config.seed
        )
        codes, score = np.where(false, len(names) - 1, codes), np.where(false, np.nan, score)
    return Selection(
        index, config, anchor, partner, true_partner, codes, names, score,
        meaning.take(anchor), class_labels(index, rule).take(anchor), draws, edges,
        edge_score, mining,
    )  # fmt: skip


def _disjoint(
    index: ImageIndex, config: PairsConfig, rule: Rule, group: Int, block: Int, *, images_each: int = 1
) -> tuple[Int, Int]:
    key = keyed.text_keys(config.seed, STREAM, index.id_pieces())
    anchor, partner = disjoint_pairs(group, block, index.picture, key, seed=config.seed)
    if not len(anchor):
        raise _no_pair(index, config, rule)
    chosen = limited(anchor, class_labels(index, rule), config, images_each=images_each)
    return anchor[chosen], partner[chosen]


def _pool(index: ImageIndex, config: PairsConfig, rule: Rule, group: Int, block: Int) -> Selection:
    """Every image that has a partner, within the limits."""
    if config.count is not None or config.per_class is not None:
        if rule.category is rule.meaning:
            # Pairs, not images: each image is to keep a partner, however small its class is in the pool.
            pool = np.concatenate(_disjoint(index, config, rule, group, block, images_each=2))
        else:
            paired = GroupDraws(group, block, index.picture).count > 0
            pool = _whole_meanings(index, config, rule, np.where(paired, group, -1), block)
        group = np.where(np.isin(np.arange(len(index)), pool), group, -1)
    draws = GroupDraws(group, block, index.picture)
    anchor = np.flatnonzero(draws.count > 0)
    if not len(anchor):
        raise _no_pair(index, config, rule)
    return compose(index, config, rule, anchor, np.broadcast_to(np.int64(-1), len(anchor)), draws=draws)


def _whole_meanings(index: ImageIndex, config: PairsConfig, rule: Rule, group: Int, block: Int) -> Int:
    """Images within the limits: a pair of each class, then one meaning after another, so that most have as
    many partners as in the full pool. Every image with a group has a partner in it."""
    images = np.flatnonzero(group >= 0)
    key = keyed.text_keys(config.seed, STREAM, index.id_pieces(images))
    _, place = np.unique(group[images], return_inverse=True)
    first = np.full(place.max(initial=-1) + 1, np.iinfo(np.uint64).max)
    np.minimum.at(first, place, key)
    order = np.lexsort((key, place, first[place]))
    images, place = images[order], place[order]
    # Behind the first image of a meaning comes one it can be paired with: any part of a meaning has pairs.
    start = runs(place)[0]
    lead = images[start]
    fits = (block[images] != block[lead]) & (index.picture[images] != index.picture[lead])
    rank = np.arange(len(images)) - start
    partner = np.full(len(images), len(images))
    np.minimum.at(partner, start[fits], rank[fits])
    images = images[np.lexsort((rank, rank != partner[start], rank > 0, start))]
    classes = class_labels(index, rule)
    ahead = _of_each_class(classes.codes[images[start]], rank < 2, 2)
    images = images[np.argsort(~ahead, kind="stable")]
    return images[within(images, classes, config, images_each=1)]


def _of_each_class(codes: Int, fit: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Marks the first `count` of each class among those that fit, in their order; (N,) each."""
    places = np.flatnonzero(fit)
    order = np.argsort(codes[places], kind="stable")
    rank = np.arange(len(places)) - runs(codes[places][order])[0]
    marked = np.zeros(len(codes), dtype=bool)
    marked[places[order][rank < count]] = True
    return marked


def of_list(
    index: ImageIndex,
    config: PairsConfig,
    rule: Rule,
    anchor: Int,
    partner: Int,
    *,
    score: NDArray[np.float64],
    relation: tuple[Int, tuple[str, ...]] | None = None,
    mining: Mapping[str, Any] | None = None,
) -> Selection:
    """The selection of a list of pairs, sorted: as it stands, or, redrawn, as who may be whose partner."""
    if config.mode == "fixed":
        chosen = limited(anchor, class_labels(index, rule), config)
        if relation is not None:
            relation = (relation[0][chosen], relation[1])
        return compose(
            index, config, rule, anchor[chosen], partner[chosen], relation=relation, score=score[chosen],
            mining=mining,
        )  # fmt: skip
    for field, limit in (("count", config.count), ("per_class", config.per_class)):
        if limit is not None:
            raise UserError(
                f"pairs.{field}", "cannot limit a redrawn list", limit, "shorten the list, or use mode: fixed"
            )
    draws = ListDraws(len(index), anchor, partner)
    pool = np.flatnonzero(draws.count > 0)
    return compose(
        index, config, rule, pool, np.full(len(pool), -1), draws=draws, edges=(anchor, partner),
        edge_score=score, mining=mining,
    )  # fmt: skip


def limited(anchor: Int, classes: Labels, config: PairsConfig, *, images_each: int = 1) -> Int:
    """Positions of the pairs that `count` and `per_class` leave, ascending; chosen by key, so that a lower
    limit leaves a part of what a higher one does. images_each: anchors an epoch that a pair stands for."""
    positions = np.arange(len(anchor))
    if config.count is None and config.per_class is None:
        return positions
    draw = keyed.uniform(config.seed, STREAM, occurrence=positions, slot=LIMIT)[:, 0]
    order = np.argsort(draw, kind="stable")
    if config.mode == "redrawn":  # a pair of each class first: no class is lost while there is room for it
        codes = classes.codes[anchor[order]]
        ahead = _of_each_class(codes, np.ones(len(order), dtype=bool), 1)
        order = order[np.argsort(~ahead, kind="stable")]
    return np.sort(order[within(anchor[order], classes, config, images_each=images_each)])


def within(items: Int, classes: Labels, config: PairsConfig, *, images_each: int) -> Int:
    """Positions of the first of the anchors `items` that fit `per_class` and then `count`, in their order."""
    for field, limit in (("count", config.count), ("per_class", config.per_class)):
        if limit == 1 and config.mode == "redrawn" and not config.one_image:
            raise UserError(f"pairs.{field}", "must be at least 2 for redrawn pairs", limit)
    chosen = np.arange(len(items))
    if config.per_class is not None:
        if not classes.known.any():
            raise UserError("pairs.per_class", "needs a category or concept, and the catalogue has neither")
        codes = classes.codes[items]
        by_class = np.argsort(codes, kind="stable")
        rank = np.empty(len(items), dtype=np.int64)
        rank[by_class] = np.arange(len(items)) - runs(codes[by_class])[0]
        chosen = chosen[(rank < config.per_class // images_each) & (codes >= 0)]
    return chosen if config.count is None else chosen[: config.count // images_each]


def meaning_of_all(index: ImageIndex, meaning: Labels, links: tuple[Int, Int]) -> Labels:
    """A meaning for every item: where none is known, images that are linked or of one picture share one.

    links: items (E,) each, -1 for no link.
    """
    if meaning.known.all():
        return meaning
    true = (links[0] >= 0) & (links[1] >= 0)
    alike = components(len(index), index.picture, edges=[(links[0][true], links[1][true])])
    unknown = np.flatnonzero(~meaning.known)
    kinds, codes = np.unique(alike[unknown], return_inverse=True)
    names = tuple(f"image {index.ids[item]}" for item in kinds)  # sorted, as items are
    own = np.full(len(index), -1, dtype=np.int64)
    own[unknown] = codes
    return meaning.otherwise(Labels(own, names))


def _no_pair(index: ImageIndex, config: PairsConfig, rule: Rule) -> UserError:
    remedy = "give more images a class, or another relation"
    line = f"finds no pair in {len(index)} images: {rule.empty} within one split"
    return UserError(f"pairs.relation {config.label}", line, remedy=remedy)
