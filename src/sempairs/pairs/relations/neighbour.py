"""Pairs mined from embeddings: images that an encoder finds alike.

"Semantic Positive Pairs for Enhancing Visual Representation Learning of Instance Discrimination Methods"
(arXiv:2306.16122): pairs of different images whose cosine under a pretrained encoder is high enough join the
augmented pairs (`mixed`). Here also each image's `top_k` nearest only, mutual ones by default, without
near-duplicates, one partner an image for fixed pairs. `alone: pair_with_itself` keeps the augmented pairs of
all other images, as there. No label decides unless `same_category` asks for it.

Whatever the order of the catalogue or of the table: items are in the order of their ids, ties go by key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from sempairs import keyed
from sempairs.catalog.exposure import Inherited
from sempairs.embeddings import Embeddings
from sempairs.errors import UserError
from sempairs.pairs.config import RELATIONS, PairsConfig
from sempairs.pairs.draw import ListDraws
from sempairs.pairs.index import ImageIndex, Int, Labels, Mask
from sempairs.pairs.inherited import of_features
from sempairs.pairs.matching import SIDE, STREAM
from sempairs.pairs.neighbours import IndexReport, Searcher
from sempairs.pairs.rules import Rule, by_own_labels, class_labels
from sempairs.pairs.select import AUGMENTED, Selection, compose, within

#: So many neighbours are looked at in search of `top_k` that are no near-duplicates.
WIDEST = 1024
_CELLS = 1 << 22
_ROWS = 1 << 15

Float = NDArray[np.float64]
Cosine = Annotated[float, Field(ge=-1, le=1)]


@dataclass(frozen=True, eq=False)
class Edges:
    """Images that may be paired, the most similar first: items left < right (E,), and their cosines (E,)."""

    left: Int
    right: Int
    cosine: Float

    def __len__(self) -> int:
        return len(self.left)

    def take(self, chosen: Int | Mask) -> Edges:
        return Edges(self.left[chosen], self.right[chosen], self.cosine[chosen])


@RELATIONS.register
class Neighbour(PairsConfig):
    """Two images whose features under an encoder have a high cosine."""

    description = "neighbours in the embeddings of an encoder"
    by_columns = False
    disjoint = False

    relation: Literal["neighbour"] = "neighbour"
    # The table that `sempairs embed` wrote of these images.
    embeddings: str
    # Each image's nearest ones; near-duplicates and copies take no place among them.
    top_k: Annotated[int, Field(ge=1, le=1000)] = 5
    min_similarity: Cosine = 0.5
    # Images more alike than this are near-duplicates and never a pair.
    max_similarity: Cosine = 0.98
    # Each image is among the nearest of the other, not of one only.
    mutual: bool = True
    # At most so many partners an image, the most similar first. Fixed pairs have one anyway.
    max_partners: Annotated[int, Field(ge=1)] | None = None
    # An image that mining leaves without a partner: no anchor, or an anchor paired with itself, so that the
    # mined pairs join the augmented ones of all images.
    alone: Literal["leave_out", "pair_with_itself"] = "leave_out"
    # A use of labels: true keeps neighbours of one leaf category, false those of two, null looks at none.
    same_category: bool | None = None
    # auto: exact below 50,000 images, IVF above.
    index: Literal["auto", "exact", "ivf", "hnsw"] = "auto"
    # The share of the true neighbours that IVF and HNSW have to find.
    recall: Annotated[float, Field(gt=0, lt=1)] = 0.95

    @field_validator("alone")
    @classmethod
    def _alone_among_all(cls, alone: str, info: ValidationInfo) -> str:
        limited = info.data.get("count") is not None or info.data.get("per_class") is not None
        if alone == "pair_with_itself" and limited:
            raise ValueError("must be leave_out where count or per_class limits the pairs")
        return alone

    @field_validator("max_similarity")
    @classmethod
    def _a_range_of_similarity(cls, most: float, info: ValidationInfo) -> float:
        if most <= info.data.get("min_similarity", -2):
            raise ValueError("must be above min_similarity")
        return most

    def inherited(self) -> Inherited:
        return of_features(self.embeddings)

    def rule(self, index: ImageIndex) -> Rule:
        """In a pool, images without a label mean nothing but themselves: all that hang together by some
        neighbour would soon be all there are."""
        rule = by_own_labels(index)
        if self.mode == "redrawn":
            own = Labels(index.picture, tuple(f"image {name}" for name in index.ids))
            rule = replace(rule, meaning=rule.meaning.otherwise(own))
        return rule

    def select(self, index: ImageIndex) -> Selection:
        """Raises: UserError if an image is not in the table or was another file then, or there is no pair."""
        edges, about = mined(index, self)
        if not len(edges):
            mutual = "mutual " if self.mutual else ""
            between = f"from {self.min_similarity:g} to {self.max_similarity:g}"
            line = (
                f"finds no pair in {len(index)} images: no two are {mutual}neighbours with a cosine {between}"
            )
            remedy = (
                "change pairs.min_similarity or max_similarity, raise pairs.top_k, or set pairs.mutual=false"
            )
            nearest = about["nearest_cosine"]
            median = (
                f" (of the nearest ones it is {nearest:.2f} in the median)" if nearest is not None else ""
            )
            raise UserError("pairs.relation neighbour", line + median, remedy=remedy)
        found = (
            _pool(index, self, edges, about) if self.mode == "redrawn" else _fixed(index, self, edges, about)
        )
        if not len(found):
            raise UserError("pairs.per_class", "leaves no pair: no image of one has a class", self.per_class)
        return found


def mined(index: ImageIndex, config: Neighbour) -> tuple[Edges, dict[str, Any]]:
    """All pairs of images that are each other's (or one's) neighbours, and what they were mined with."""
    if config.same_category is not None and not index.labels("category").known.any():
        rule = "needs a category for the images, and the catalogue has none"
        raise UserError("pairs.same_category", rule, config.same_category)
    table = Embeddings.open(config.embeddings)
    files = index.catalog.table.column("file_hash").take(pa.array(index.rows)).to_pylist()
    vectors = table.of(index.ids, files, where=config.embeddings)
    left, right, nearest, searches, searched = [], [], [], [], 0
    for split in np.unique(index.split):
        # One image stands for all copies of a picture: the others would take the places of its neighbours.
        members = np.flatnonzero(index.split == split)
        members = members[np.sort(np.unique(index.picture[members], return_index=True)[1])]
        searched += len(members)
        if len(members) < 2:
            continue
        searcher = Searcher(
            vectors[members], config.top_k, kind=config.index, recall=config.recall, seed=config.seed
        )
        near, cosine = _distinct(searcher, config)
        a, b = _linked(near, mutual=config.mutual)
        left.append(members[a])
        right.append(members[b])
        nearest.append(cosine[near[:, 0] >= 0, 0])
        searches.append(_described(searcher.report))
    none = np.empty(0, dtype=np.int64)
    edges = _scored(index, config, vectors, np.concatenate([none, *left]), np.concatenate([none, *right]))
    best = np.concatenate([np.empty(0, dtype=np.float32), *nearest])
    about = {
        "embeddings": table.hash,
        **{key: table.about[key] for key in ("encoder", "data", "exposure") if key in table.about},
        "label_used": None if config.same_category is None else "category",
        "images": searched,
        "copies": len(index) - searched,
        "edges": len(edges),
        "nearest_cosine": round(float(np.median(best)), 4) if len(best) else None,
        "searches": searches,
    }
    return edges, about


def _distinct(searcher: Searcher, config: Neighbour) -> tuple[Int, NDArray[np.float32]]:
    """The `top_k` nearest of each vector that are no near-duplicates, (n, top_k) as `Searcher.nearest`."""
    n, top_k, k = len(searcher.vectors), config.top_k, config.top_k
    near = np.full((n, top_k), -1, dtype=np.int64)
    cosine = np.full((n, top_k), -np.inf, dtype=np.float32)
    rows = np.arange(n)
    while len(rows):
        short = []
        step = max(1, _CELLS // k) if k > top_k else n
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            found, alike = searcher.nearest(part, k, shown=k == top_k)
            # Nearest first, so near-duplicates stand in front.
            skipped = (alike > config.max_similarity).sum(axis=1)
            columns = skipped[:, None] + np.arange(top_k)
            inside = columns < k
            columns = np.minimum(columns, k - 1)
            near[part] = np.where(inside, np.take_along_axis(found, columns, axis=1), -1)
            cosine[part] = np.where(inside, np.take_along_axis(alike, columns, axis=1), -np.inf)
            more = (found[:, -1] >= 0) & (alike[:, -1] >= config.min_similarity)
            short.append(part[(skipped + top_k > k) & more])
        rows = np.concatenate(short)
        if k >= min(WIDEST, n):
            break
        k = min(4 * k, max(WIDEST, top_k), n)
    return near, cosine


def _linked(near: Int, *, mutual: bool) -> tuple[Int, Int]:
    """Pairs a < b of which one is in the other's list, or each is: sorted, without repeats."""
    n = len(near)
    a, b = np.repeat(np.arange(n), near.shape[1]), near.ravel()
    a, b = a[b >= 0], b[b >= 0]
    code, times = np.unique(np.minimum(a, b) * n + np.maximum(a, b), return_counts=True)
    code = code[times == 2] if mutual else code
    return code // n, code % n


def _scored(
    index: ImageIndex, config: Neighbour, vectors: NDArray[np.float32], left: Int, right: Int
) -> Edges:
    """The pairs that every rule leaves, best first. Cosines are summed anew, in float64."""
    cosine = np.empty(len(left))
    for start in range(0, len(left), _ROWS):
        part = slice(start, start + _ROWS)
        cosine[part] = (vectors[left[part]].astype(float) * vectors[right[part]]).sum(axis=1)
    cosine = np.clip(cosine, -1, 1)
    good = (cosine >= config.min_similarity) & (cosine <= config.max_similarity)
    if config.same_category is not None:
        category = index.labels("category")
        good &= category.known[left] & category.known[right]
        good &= (category.codes[left] == category.codes[right]) == config.same_category
    edges = Edges(left, right, cosine).take(good)
    key = keyed.text_key(config.seed, STREAM, index.ids)
    one, other = key[edges.left], key[edges.right]
    return edges.take(np.lexsort((np.maximum(one, other), np.minimum(one, other), -edges.cosine)))


def _fixed(index: ImageIndex, config: Neighbour, edges: Edges, about: Mapping[str, Any]) -> Selection:
    """Image-disjoint pairs, the most similar first; limits leave the most similar."""
    pairs = edges.take(best_first(edges, len(index)))
    # Which of the two is the anchor: by key, in the order of the ids, as for other relations.
    place = np.argsort(np.argsort(pairs.left))
    turned = keyed.uniform(config.seed, STREAM, occurrence=place, slot=SIDE)[:, 0] < 0.5
    anchor, partner = np.where(turned, pairs.right, pairs.left), np.where(turned, pairs.left, pairs.right)
    rule = config.rule(index)
    chosen = within(anchor, class_labels(index, rule), config, images_each=1)
    anchor, partner, score = anchor[chosen], partner[chosen], pairs.cosine[chosen]
    alone = _alone(index, config, anchor, partner)
    anchor, partner = np.concatenate([anchor, alone]), np.concatenate([partner, alone])
    score = np.concatenate([score, np.full(len(alone), np.nan)])
    order = np.argsort(anchor)
    anchor, partner = anchor[order], partner[order]
    relation = (anchor == partner).astype(np.int64), (config.label, AUGMENTED)
    return compose(index, config, rule, anchor, partner, relation=relation, score=score[order], mining=about)


def _pool(index: ImageIndex, config: Neighbour, edges: Edges, about: Mapping[str, Any]) -> Selection:
    """Every image with the neighbours it is drawn with. Limits count images, each an anchor once an epoch,
    and take them in pairs, best first, so that each has a partner."""
    rule = config.rule(index)
    if config.count is not None or config.per_class is not None:
        pairs = edges.take(best_first(edges, len(index)))
        chosen = _images_within(pairs, class_labels(index, rule), config)
        inside = np.zeros(len(index), dtype=bool)
        inside[pairs.left[chosen]] = inside[pairs.right[chosen]] = True
        edges = edges.take(inside[edges.left] & inside[edges.right])
        if not len(edges):
            raise UserError(
                "pairs.per_class", "leaves no pair: none is of two images within it", config.per_class
            )
    if config.max_partners is not None:
        edges = edges.take(best_first(edges, len(index), partners=config.max_partners))
    alone = _alone(index, config, edges.left, edges.right)
    # An image that is listed with itself draws itself.
    left, right = np.concatenate([edges.left, alone]), np.concatenate([edges.right, alone])
    edges = Edges(left, right, np.concatenate([edges.cosine, np.full(len(alone), np.nan)]))
    edges = edges.take(np.lexsort((edges.right, edges.left)))
    draws = ListDraws(len(index), edges.left, edges.right)
    pool = np.flatnonzero(draws.count > 0)
    return compose(
        index, config, rule, pool, np.full(len(pool), -1), draws=draws, edges=(edges.left, edges.right),
        edge_score=edges.cosine, mining=about,
    )  # fmt: skip


def _alone(index: ImageIndex, config: Neighbour, one: Int, other: Int) -> Int:
    """The items in no pair of `one` and `other`, where they are to be paired with themselves; ascending."""
    if config.alone == "leave_out":
        return np.empty(0, dtype=np.int64)
    return np.setdiff1d(np.arange(len(index)), np.concatenate([one, other]))


def best_first(edges: Edges, n: int, *, partners: int = 1) -> Int:
    """Positions of the pairs taken one after another where both images still have fewer than `partners`."""
    free, chosen = [partners] * n, []
    for at, (a, b) in enumerate(zip(edges.left.tolist(), edges.right.tolist(), strict=True)):
        if free[a] and free[b]:
            free[a] -= 1
            free[b] -= 1
            chosen.append(at)
    return np.array(chosen, dtype=np.int64)


def _images_within(pairs: Edges, classes: Labels, config: Neighbour) -> Int:
    """Positions of the pairs whose two images fit `per_class` and then `count`."""
    within(np.empty(0, dtype=np.int64), classes, config, images_each=2)  # checks the limits
    chosen = np.arange(len(pairs))
    if config.per_class is not None:
        left, taken = [config.per_class] * len(classes.names), []
        ends = zip(classes.codes[pairs.left].tolist(), classes.codes[pairs.right].tolist(), strict=True)
        for at, (a, b) in enumerate(ends):
            if a >= 0 and b >= 0 and (left[a] and left[b] if a != b else left[a] > 1):
                left[a] -= 1
                left[b] -= 1
                taken.append(at)
        chosen = np.array(taken, dtype=np.int64)
    return chosen if config.count is None else chosen[: config.count // 2]


def _described(report: IndexReport) -> dict[str, Any]:
    """A search as it is recorded; how long it took is no property of the pairs."""
    return {
        "index": report.kind,
        "images": report.vectors,
        "k": report.k,
        "recall": round(report.recall, 4),
        "queries": report.queries,
        "settings": dict(report.settings),
    }
