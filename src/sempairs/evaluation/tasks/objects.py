"""Tasks on object-pairs: the kind of new objects, an object from another side, and a name across makers.

Makers marked `held_out` are in no pretraining. Objects of one split group (their names are about one thing,
or they look alike) share a split.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from sempairs.catalog.table import Catalog
from sempairs.catalog.taxonomy import top
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.tasks.base import TASKS, Classification, Retrieval, Task, no_rest
from sempairs.evaluation.tasks.split import classify, numbers, unit_names

SOURCE = "object-pairs"
GALLERY_SIDE = "front"
Mask = NDArray[np.bool_]


@TASKS.register("object-kind", summary="what kind of thing a new object is, by makers seen in pretraining")
def object_kind(rest: str) -> Task:
    """The kind of test objects, by seen makers."""
    no_rest("object-kind", rest)
    return _kind("object-kind", held_out=False)


@TASKS.register("object-kind-held-out", summary="what kind of thing a new object by a new maker is")
def object_kind_held_out(rest: str) -> Task:
    """The kind of test objects, by held-out makers; fitted on the same images."""
    no_rest("object-kind-held-out", rest)
    return _kind("object-kind-held-out", held_out=True)


@TASKS.register("object-views", summary="a new object seen from its front, from one of its other sides")
def object_views(rest: str) -> Task:
    """Gallery: test objects from their front; queries: from all other sides; a hit: the same object."""
    no_rest("object-views", rest)
    rule = {"task": "object-views", "version": 1, "hit": "concept", "gallery": GALLERY_SIDE}
    return Task("object-views", SOURCE, "retrieval-1", "top_1", rule, _views, movable=True)


@TASKS.register("object-names", summary="a new object of the same name by another maker")
def object_names(rest: str) -> Task:
    """Of each split group the gallery holds the objects of the maker who has most of them; the others' are
    queries. A hit: the same split group, and so another maker. Groups of one maker are in the gallery too."""
    no_rest("object-names", rest)
    rule = {"task": "object-names", "version": 1, "hit": "split_group", "gallery": "largest maker"}
    return Task("object-names", SOURCE, "retrieval-1", "top_1", rule, _names, movable=True)


def _kind(name: str, *, held_out: bool) -> Task:
    def build(catalog: Catalog, config: EvaluationConfig) -> Classification:
        _needed(catalog, "held_out")
        split, unseen = catalog.column("split"), np.asarray(catalog.column("held_out"), dtype=bool)
        kinds = [None if path is None else top(path) for path in catalog.column("category")]
        return classify(
            catalog,
            config,
            fit=(split == "train") & ~unseen,
            validation=(split == "validation") & ~unseen,
            test=(split == "test") & (unseen if held_out else ~unseen),
            values=np.array(kinds, dtype=object),
        )

    rule = {"task": name, "version": 1, "label": "top of category"}
    return Task(name, SOURCE, "linear-1", "accuracy", rule, build, movable=True)


def _views(catalog: Catalog, config: EvaluationConfig) -> Retrieval:
    test, front = catalog.column("split") == "test", catalog.column("domain") == GALLERY_SIDE
    return _retrieval(catalog, test & ~front, test & front, "concept")


def _names(catalog: Catalog, config: EvaluationConfig) -> Retrieval:
    _needed(catalog, "maker")
    group, maker = catalog.column("split_group"), catalog.column("maker")
    known = np.array([g is not None and m is not None for g, m in zip(group, maker, strict=True)], dtype=bool)
    test = np.flatnonzero((catalog.column("split") == "test") & known)
    images = Counter(zip(group[test], maker[test], strict=True))
    largest = {g: m for (g, m), _ in sorted(images.items(), key=lambda item: (item[1], item[0]))}
    in_gallery = np.array([largest[group[row]] == maker[row] for row in test], dtype=bool)
    gallery = np.zeros(len(catalog), dtype=bool)
    queries = gallery.copy()
    gallery[test[in_gallery]], queries[test[~in_gallery]] = True, True
    return _retrieval(catalog, queries, gallery, "split_group")


def _retrieval(catalog: Catalog, asked: Mask, kept: Mask, column: str) -> Retrieval:
    """Queries with an answer, the gallery, and what a hit is: equal values of `column`."""
    meaning = numbers(catalog.column(column))
    queries, gallery = np.flatnonzero(asked), np.flatnonzero(kept)
    found = (meaning[queries] >= 0) & np.isin(meaning[queries], meaning[gallery])
    if not found.any():
        rule = f"must hold images of one {column} among both queries and gallery"
        raise UserError("the test split", rule, remedy="give object-pairs, or a release of it")
    notes = {"queries_without_match": int((~found).sum()), "gallery_images": len(gallery)}
    return Retrieval(queries[found], gallery, meaning, unit_names(catalog), notes)


def _needed(catalog: Catalog, column: str) -> None:
    if column not in catalog.table.column_names:
        raise UserError(
            "the catalogue",
            f"must have a column {column}",
            remedy="give object-pairs, or a release of it",
        )
