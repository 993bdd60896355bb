"""Invariance tasks on emoji-pairs: of new drawings to transformations, and of new concepts beyond them.

Pairs are of the test split, so no pretraining has seen either image, nor the concept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sempairs.catalog.sources.base import existing_path
from sempairs.catalog.sources.release import read_about
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.tasks.base import TASKS, Problem, Task, no_rest
from sempairs.evaluation.tasks.emoji import SOURCE
from sempairs.evaluation.tasks.split import joined, numbers, unit_names
from sempairs.keyed import text_key

Int = NDArray[np.int64]
MAX_IMAGES = 1000
"""Images transformed: a keyed subset, as each is seen about a hundred times."""
MAX_REFERENCE = 2000
"""Training images that whitening is fitted on."""


@dataclass(frozen=True)
class TransformInvariance(Problem):
    """How far the features of `images` (M,) move when the pictures are transformed.

    reference: rows whose features give the whitening. units: (N,) as in a classification.
    """

    images: Int
    reference: Int
    units: NDArray[np.str_]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scored(self) -> Int:
        """The images transformed."""
        return self.images

    @property
    def fitted(self) -> Int:
        """The reference."""
        return self.reference


@dataclass(frozen=True)
class BackgroundInvariance(TransformInvariance):
    """The same of what lies behind a drawing: pictures with alpha, on grounds instead of white.

    textures: a source whose test images are the grounds; None: drawn ones.
    """

    textures: str | None = None


@dataclass(frozen=True)
class PairInvariance(Problem):
    """How near the features of two images of one meaning lie: left, right (M,), never seen in pretraining.

    apart: (N,) over the catalogue; chance is pairs of images that differ in it. The rest as above.
    """

    left: Int
    right: Int
    apart: Int
    reference: Int
    units: NDArray[np.str_]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scored(self) -> Int:
        """Every image of a pair."""
        return np.union1d(self.left, self.right)

    @property
    def fitted(self) -> Int:
        """The reference."""
        return self.reference


@dataclass(frozen=True)
class Structure(Problem):
    """Where `images` (M,) lie. meaning, category: (N,) numbers over the catalogue, -1 for none."""

    images: Int
    meaning: Int
    category: Int
    units: NDArray[np.str_]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scored(self) -> Int:
        """The images."""
        return self.images

    @property
    def fitted(self) -> Int:
        """Nothing is fitted."""
        return np.empty(0, dtype=np.int64)


@TASKS.register("emoji-transforms", summary="new drawings under twenty transformations at five strengths")
def emoji_transforms(rest: str) -> Task:
    """Whitened cosine between a picture and the picture transformed."""
    no_rest("emoji-transforms", rest)
    rule = {"task": "emoji-transforms", "version": 1, "images": MAX_IMAGES, "reference": MAX_REFERENCE}
    return Task("emoji-transforms", SOURCE, "transforms-1", "cosine", rule, _transforms, movable=True)


@TASKS.register("emoji-backgrounds", summary="new drawings on other grounds: beyond the pipeline")
def emoji_backgrounds(rest: str) -> Task:
    """Whitened cosine between a drawing on white and on a colour or texture.

    rest: the folder of a release whose test images are the grounds instead, as texture-pairs is.
    """
    rule: dict[str, Any] = {
        "task": "emoji-backgrounds",
        "version": 1,
        "images": MAX_IMAGES,
        "reference": MAX_REFERENCE,
    }
    textures, name = None, "emoji-backgrounds"
    if rest:
        textures, name = f"release:{rest}", f"emoji-backgrounds:{rest}"
        rule["textures"] = read_about(existing_path("release", rest, folder=True)).get("manifest_hash")

    def build(catalog: Catalog, config: EvaluationConfig) -> BackgroundInvariance:
        return replace(_backgrounds(catalog, config), textures=textures)

    return Task(name, SOURCE, "backgrounds-1", "cosine", rule, build, movable=True)


@TASKS.register("emoji-designers", summary="one new concept by two designers: beyond the pipeline")
def emoji_designers(rest: str) -> Task:
    """Pairs of one test concept by two designers, against pairs of two concepts."""
    no_rest("emoji-designers", rest)
    return _paired("emoji-designers", ("concept", "split_group"), "domain")


@TASKS.register("emoji-individuals", summary="two new concepts of one subgroup: beyond the pipeline")
def emoji_individuals(rest: str) -> Task:
    """Pairs of two test concepts of one subgroup, against pairs of two subgroups."""
    no_rest("emoji-individuals", rest)
    return _paired("emoji-individuals", ("category",), "concept")


@TASKS.register("emoji-structure", summary="alignment, uniformity, rank and class collapse on new drawings")
def emoji_structure(rest: str) -> Task:
    """The test split by designers seen and held out, with their concepts and subgroups."""
    no_rest("emoji-structure", rest)
    rule = {"task": "emoji-structure", "version": 1, "meaning": ["concept", "split_group"]}
    return Task("emoji-structure", SOURCE, "structure-1", "lidar", rule, _structure, movable=True)


def _paired(name: str, same: tuple[str, ...], other: str) -> Task:
    rule = {"task": name, "version": 1, "same": list(same), "other": other, "reference": MAX_REFERENCE}

    def build(catalog: Catalog, config: EvaluationConfig) -> PairInvariance:
        return _pairs(catalog, config, same, other)

    return Task(name, SOURCE, "pairs-1", "auroc", rule, build, movable=True)


def _pairs(catalog: Catalog, config: EvaluationConfig, same: tuple[str, ...], other: str) -> PairInvariance:
    """Each test image with a keyed other one of the same meaning; none with itself, or the same picture."""
    test = _rows(catalog, "test")
    meaning = joined(catalog, same) if len(same) > 1 else numbers(catalog.column(same[0]))
    differ, picture = numbers(catalog.column(other)), joined(catalog, ("pixel_hash", "file_hash"))
    key = text_key(config.seed, "pairs", catalog.column("image_id").tolist())
    test = test[(meaning[test] >= 0) & (differ[test] >= 0)]
    left, right = [], []
    for number in np.unique(meaning[test]):
        own = test[meaning[test] == number]
        own = own[np.argsort(key[own], kind="stable")]
        for row in own:
            fits = own[(differ[own] != differ[row]) & (picture[own] != picture[row])]
            if len(fits):
                left.append(row)
                right.append(fits[int(key[row] % np.uint64(len(fits)))])
    if not left:
        raise UserError("the test split", f"must hold two images of one {same[0]} that differ in {other}")
    if len(np.unique(meaning[left])) < 2:
        raise UserError("the test split", f"must hold pairs of two different {same[0]} values", 1)
    notes = {"pairs": len(left), "images_without_partner": len(test) - len(left)}
    ends = np.array(left, dtype=np.int64), np.array(right, dtype=np.int64)
    return PairInvariance(*ends, meaning, _reference(catalog, config), unit_names(catalog), notes)


def _transforms(catalog: Catalog, config: EvaluationConfig) -> TransformInvariance:
    test = _keyed(catalog, _rows(catalog, "test"), MAX_IMAGES, config)
    return TransformInvariance(test, _reference(catalog, config), unit_names(catalog))


def _backgrounds(catalog: Catalog, config: EvaluationConfig) -> BackgroundInvariance:
    test = _keyed(catalog, _rows(catalog, "test"), MAX_IMAGES, config)
    return BackgroundInvariance(test, _reference(catalog, config), unit_names(catalog))


def _structure(catalog: Catalog, config: EvaluationConfig) -> Structure:
    meaning = joined(catalog, ("concept", "split_group"))
    category = numbers(catalog.column("category"))
    return Structure(_rows(catalog, "test"), meaning, category, unit_names(catalog))


def _reference(catalog: Catalog, config: EvaluationConfig) -> Int:
    return _keyed(catalog, _rows(catalog, "train"), MAX_REFERENCE, config)


def _rows(catalog: Catalog, split: str) -> Int:
    found = np.flatnonzero(catalog.column("split") == split)
    if not len(found):
        raise UserError(f"the {split} split", "must hold images")
    return found


def _keyed(catalog: Catalog, rows: Int, most: int, config: EvaluationConfig) -> Int:
    if len(rows) <= most:
        return rows
    ids = catalog.column("image_id")[rows].tolist()
    return rows[np.sort(np.argsort(text_key(config.seed, "pairs", ids), kind="stable")[:most])]
