"""Classification problems from a catalogue: given parts, or repeated stratified folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.tasks import sampling
from sempairs.evaluation.tasks.base import Classification, Fold

Int = NDArray[np.int64]
Mask = NDArray[np.bool_]
HOLDOUT = 0.2
"""Share of the training images that chooses λ where a dataset has no validation split (Ericsson 2021)."""


def classify(
    catalog: Catalog,
    config: EvaluationConfig,
    *,
    fit: Mask,
    validation: Mask,
    test: Mask,
    values: NDArray[np.object_] | None = None,
) -> Classification:
    """One fold with the given parts, masks over the catalogue. values: the labels; None: `category`.

    Images without a label are left out; scored images of a class that nothing is fitted on are left out and
    counted. Without validation images, a keyed share of the images to fit on takes their place.
    Raises: UserError if there are fewer than two classes to fit, or nothing to score.
    """
    values = catalog.column("category") if values is None else values
    labelled = np.array([value is not None for value in values], dtype=bool)
    units = unit_names(catalog)
    fit, validation, test = fit & labelled, validation & labelled, test & labelled
    all_labels = numbers(values)
    if not validation.any() and fit.any():
        rows = np.flatnonzero(fit)
        held = sampling.holdout(all_labels[rows], units[rows].tolist(), HOLDOUT, seed=config.seed)
        validation[rows[held]], fit[rows[held]] = True, False
    learn = np.flatnonzero(fit | validation)
    if config.max_fit_images is not None:
        strata = all_labels[learn] * 2 + validation[learn]
        ids = catalog.column("image_id")[learn].tolist()
        learn = learn[sampling.subset(strata, ids, config.max_fit_images, seed=config.seed)]
    classes = tuple(sorted({str(value) for value in values[learn]}))
    _refuse_few(classes, "images to fit on")
    labels = _indices(values, classes)
    scored = np.flatnonzero(test)
    known = labels[scored] >= 0
    if not known.any():
        remedy = "give the images a split, or at least three images of each class"
        raise UserError("the test split", "must hold images of classes that are fitted", 0, remedy)
    if not validation[learn].any() or not fit[learn].any():
        raise UserError("the training split", "must hold images to fit on and to choose λ on", len(learn))
    fold = Fold(learn[fit[learn]], learn[validation[learn]], scored[known])
    notes = {"unfitted_class_images": int((~known).sum())}
    return Classification(labels, classes, (fold,), units, notes)


def fold_up(catalog: Catalog, config: EvaluationConfig, values: NDArray[np.object_]) -> Classification:
    """`config.repeats` times `config.folds` stratified folds over all images with a label.

    Each fold is scored once; the next one chooses λ, the others are fitted on. Classes of fewer units than
    folds are left out and counted. Raises: UserError if fewer than two classes are left.
    """
    units = unit_names(catalog)
    rows = np.array([i for i, value in enumerate(values) if value is not None], dtype=np.int64)
    sizes: dict[str, set[str]] = {}
    for row in rows:
        sizes.setdefault(str(values[row]), set()).add(str(units[row]))
    classes = tuple(sorted(name for name, members in sizes.items() if len(members) >= config.folds))
    _refuse_few(classes, f"at least {config.folds} different images")
    labels = _indices(values, classes)
    kept = rows[labels[rows] >= 0]
    ids = catalog.column("image_id")
    made: list[Fold] = []
    for repeat in range(config.repeats):
        place = sampling.folds(
            labels[kept], units[kept].tolist(), config.folds, seed=config.seed, repeat=repeat
        )
        for k in range(config.folds):
            held = (k + 1) % config.folds
            learn = kept[place != k]
            if config.max_fit_images is not None:
                strata = labels[learn] * 2 + (place[place != k] == held)
                mask = sampling.subset(strata, ids[learn].tolist(), config.max_fit_images, seed=config.seed)
                learn = learn[mask]
            choosing = np.isin(learn, kept[place == held])
            made.append(Fold(learn[~choosing], learn[choosing], kept[place == k]))
    notes = {
        "small_class_images": int(len(rows) - len(kept)),
        "folds": config.folds,
        "repeats": config.repeats,
    }
    return Classification(labels, classes, tuple(made), units, notes)


def numbers(values: NDArray[np.object_]) -> Int:
    """A number for each value, in the values' order, -1 for None; (N,)."""
    return _indices(values, tuple(sorted({str(value) for value in values if value is not None})))


def joined(catalog: Catalog, columns: Sequence[str]) -> Int:
    """A number for each image, (N,): equal where a chain of equal values in some column joins them."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(catalog)
    edges: list[tuple[Int, Int]] = []
    for name in columns:
        number = numbers(catalog.column(name))
        present = np.flatnonzero(number >= 0)
        _, first, of = np.unique(number[present], return_index=True, return_inverse=True)
        edges.append((present, present[first][of]))
    left, right = (np.concatenate(side) for side in zip(*edges, strict=True))
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def unit_names(catalog: Catalog) -> NDArray[np.str_]:
    """What must not be divided, (N,): images joined by a split group, equal bytes or equal pixels.

    Each unit is called after the smallest id in it.
    """
    part = joined(catalog, ("split_group", "pixel_hash", "file_hash"))
    ids = catalog.column("image_id").astype(str)
    order = np.argsort(ids, kind="stable")
    _, first = np.unique(part[order], return_index=True)
    return np.asarray(ids[order[first]][part])


def _indices(values: NDArray[np.object_], classes: tuple[str, ...]) -> Int:
    place = {name: i for i, name in enumerate(classes)}
    return np.array([-1 if v is None else place.get(str(v), -1) for v in values], dtype=np.int64)


def _refuse_few(classes: tuple[str, ...], needed: str) -> None:
    if len(classes) < 2:
        remedy = "give a source with labels, for example folder:PATH with a folder for each class"
        raise UserError("the labels", f"must hold two classes with {needed}", len(classes), remedy)
