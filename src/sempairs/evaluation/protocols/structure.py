"""How features of new images lie: two alignments, uniformity, ranks, and whether classes have collapsed.

Wang and Isola 2020, arXiv:2005.10242; RankMe, arXiv:2210.02885; LiDAR, arXiv:2312.04000, with true meanings;
class-distance normalised variance, arXiv:2112.15121. A class has collapsed when its variance is near nothing
and finer meanings within it can no longer be told apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sempairs.encoders import embed
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.protocols.base import PROTOCOLS, Context, Protocol
from sempairs.evaluation.scores import Score
from sempairs.evaluation.tasks.invariance import Structure
from sempairs.metrics import (
    alignment,
    class_distance_normalised_variance,
    feature_std,
    lidar,
    rankme,
    uniformity,
)
from sempairs.views.config import ViewsConfig
from sempairs.views.maker import ViewMaker

RECIPE = "lab"
BATCH = 256


@PROTOCOLS.register
class FeatureStructure(Protocol):
    """Eight numbers, one a share of images; n is the images. What these features or classes do not define is
    left out, and named in extra["undefined"] of the others: nothing is made up for it."""

    name = "structure-1"
    takes = (Structure,)
    metrics = (
        "lidar", "rankme", "alignment_augmented", "alignment_semantic", "uniformity", "feature_std",
        "class_variance", "within_class_top_1",
    )  # fmt: skip
    plain = metrics[:-1]
    summary = "alignment of augmented and of semantic pairs, uniformity, rank, class collapse"
    frozen = False

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """The recipe of the augmented views, and the seed."""
        return {"views": RECIPE, "seed": config.seed}

    def check(self, problem: Structure, config: EvaluationConfig) -> None:
        """Raises: UserError without two meanings that two images share each."""
        shared = int((np.unique(problem.meaning[problem.images], return_counts=True)[1] > 1).sum())
        if shared < 2:
            remedy = "give a source with concepts or split groups"
            raise UserError("the test split", "must hold two meanings of two images each", shared, remedy)

    def score(self, context: Context, problem: Structure) -> list[Score]:
        """Semantic pairs are every image with the next of its meaning."""
        features = context.features(problem.images).at(problem.images)
        meaning = problem.meaning[problem.images]
        one, two = _neighbours_in_meaning(meaning)
        first, second = _views(context, problem.images)
        labelled = problem.category[problem.images] >= 0
        category = problem.category[problem.images][labelled]
        values: dict[str, float | None] = {
            "lidar": lidar(features, meaning),
            "rankme": rankme(features),
            "alignment_augmented": alignment(first, second),
            "alignment_semantic": alignment(features[one], features[two]),
            "uniformity": uniformity(features),
            "feature_std": feature_std(features),
            "class_variance": _class_variance(features[labelled], category),
            "within_class_top_1": _within_class(features[labelled], meaning[labelled], category),
        }
        extra = {"undefined": [name for name in self.metrics if values[name] is None]}
        return [
            Score(name, value, len(features), "none", extra)
            for name in self.metrics
            if (value := values[name]) is not None
        ]


def _neighbours_in_meaning(meaning: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of places that follow each other within a meaning; the last of each is followed by none."""
    order = np.argsort(meaning, kind="stable")
    same = meaning[order][1:] == meaning[order][:-1]
    return order[:-1][same], order[1:][same]


def _class_variance(features: NDArray[np.float32], category: NDArray[np.int64]) -> float | None:
    """None for fewer than two classes, and where two have one mean, as a collapsed encoder's have."""
    if len(np.unique(category)) < 2:
        return None
    try:
        return class_distance_normalised_variance(features, category)
    except ValueError:
        return None


def _within_class(
    features: NDArray[np.float32], meaning: NDArray[np.int64], category: NDArray[np.int64]
) -> float | None:
    """Of images that have another one of their meaning: how often the nearest of the same class is one.

    Classes of a single meaning, in which nothing could be confused, are left out; None if no class is left.
    """
    hits = 0
    asked = 0
    for name in np.unique(category):
        own = np.flatnonzero(category == name)
        if len(np.unique(meaning[own])) < 2:
            continue
        rows = features[own].astype(np.float64)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        near = rows @ rows.T
        np.fill_diagonal(near, -np.inf)
        same = meaning[own][:, None] == meaning[own][None]
        has = same.sum(axis=1) > 1
        hits += int((meaning[own][near.argmax(axis=1)] == meaning[own])[has].sum())
        asked += int(has.sum())
    return hits / asked if asked else None


def _views(context: Context, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features of two augmented views of each image."""
    spec = context.target.spec
    store = context.pixels(rows)
    config = ViewsConfig(recipe=RECIPE, size=spec.input_size, mean=spec.mean, std=spec.std)
    maker = ViewMaker(config, store, seed=context.config.seed, device=context.device)
    sides = []
    for side in (0, 1):
        batches = (
            maker.make(0, part, part, part, part).crops[side].pixels
            for part in np.array_split(np.arange(len(store)), max(1, -(-len(store) // BATCH)))
        )
        sides.append(embed(context.target.encoder, batches, precision=context.config.settled_precision))
    return sides[0], sides[1]
