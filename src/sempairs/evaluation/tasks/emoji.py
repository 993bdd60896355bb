"""Tasks on emoji-pairs: new concepts, new designers, and finding a concept across designers.

Designers marked `held_out` are in no pretraining; their images of test concepts have split "test".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.tasks.base import TASKS, Classification, Retrieval, Task, no_rest
from sempairs.evaluation.tasks.split import classify, joined, unit_names

SOURCE = "emoji-pairs"
Mask = NDArray[np.bool_]


def _subgroup(catalog: Catalog, config: EvaluationConfig, *, held_out: bool) -> Classification:
    """Fitted on training concepts, λ chosen on validation concepts, both drawn by seen designers."""
    split, unseen = catalog.column("split"), _held_out(catalog)
    return classify(
        catalog,
        config,
        fit=(split == "train") & ~unseen,
        validation=(split == "validation") & ~unseen,
        test=(split == "test") & (unseen if held_out else ~unseen),
    )


@TASKS.register("emoji-subgroup", summary="Unicode subgroup of new concepts by designers seen in pretraining")
def emoji_subgroup(rest: str) -> Task:
    """The subgroup of test concepts, drawn by seen designers."""
    no_rest("emoji-subgroup", rest)
    return _linear("emoji-subgroup", held_out=False)


@TASKS.register("emoji-subgroup-held-out", summary="Unicode subgroup of new concepts by new designers")
def emoji_subgroup_held_out(rest: str) -> Task:
    """The subgroup of test concepts, drawn by held-out designers; fitted on the same images."""
    no_rest("emoji-subgroup-held-out", rest)
    return _linear("emoji-subgroup-held-out", held_out=True)


@TASKS.register("emoji-retrieval", summary="the same new concept by another designer, from a new designer's")
def emoji_retrieval(rest: str) -> Task:
    """Queries: test concepts by held-out designers; gallery: by seen ones; a hit: same concept or group."""
    no_rest("emoji-retrieval", rest)
    rule = {"task": "emoji-retrieval", "version": 1, "hit": ["concept", "split_group"]}
    return Task("emoji-retrieval", SOURCE, "retrieval-1", "top_1", rule, _retrieval, movable=True)


def _linear(name: str, *, held_out: bool) -> Task:
    def build(catalog: Catalog, config: EvaluationConfig) -> Classification:
        return _subgroup(catalog, config, held_out=held_out)

    rule = {"task": name, "version": 1, "label": "category"}
    return Task(name, SOURCE, "linear-1", "accuracy", rule, build, movable=True)


def _retrieval(catalog: Catalog, config: EvaluationConfig) -> Retrieval:
    test, unseen = catalog.column("split") == "test", _held_out(catalog)
    # Identical pictures of two concepts make these one split group, and each a right answer for the other.
    meaning = joined(catalog, ("concept", "split_group"))
    queries, gallery = np.flatnonzero(test & unseen), np.flatnonzero(test & ~unseen)
    found = np.isin(meaning[queries], meaning[gallery])
    if not found.any():
        raise UserError("the test split", "must hold concepts drawn by both seen and held-out designers")
    notes = {"queries_without_match": int((~found).sum()), "gallery_images": len(gallery)}
    return Retrieval(queries[found], gallery, meaning, unit_names(catalog), notes)


def _held_out(catalog: Catalog) -> Mask:
    if "held_out" not in catalog.table.column_names:
        remedy = "give emoji-pairs, or a release of it"
        raise UserError("the catalogue", "must have a column held_out", remedy=remedy)
    return np.asarray(catalog.column("held_out"), dtype=bool)
