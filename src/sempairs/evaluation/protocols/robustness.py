"""How well a probe fitted on clean pictures does on corrupted ones. Hendrycks and Dietterich 2019,
arXiv:1903.12261; see `perturbations.corruptions` for the corruptions.

The value is the mean accuracy over corruptions and strengths, each weighing alike. The paper's mCE divides
errors by AlexNet's on ImageNet; it is not defined here, where nothing of the kind has been measured on other
images, and as three corruptions are left out the mean is not that of the published sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.perturbations.changed import embed_changed
from sempairs.evaluation.perturbations.corruptions import CORRUPTIONS, SMALL, STRENGTHS, corrupted
from sempairs.evaluation.protocols.base import PROTOCOLS, Context, Protocol
from sempairs.evaluation.protocols.linear import LinearConfig, fitted_probe
from sempairs.evaluation.scores import Outcome, Score, spread
from sempairs.evaluation.tasks.base import Classification
from sempairs.keyed import text_key
from sempairs.progress import track


@PROTOCOLS.register
class Corruptions(Protocol):
    """Accuracy on corrupted pictures, and on the same pictures clean."""

    name = "corruptions-1"
    takes = (Classification,)
    metrics = ("corrupted_accuracy", "clean_accuracy")
    summary = "linear-1 fitted on clean pictures, scored under twelve common corruptions at five strengths"
    Config = LinearConfig
    restated = ("lambdas",)

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """The probe's settings, every constant, and up to which size the small ones are taken."""
        return {
            "probe": PROTOCOLS.get("linear-1").settings(config),
            "corruptions": {n: [_listed(c.small), _listed(c.large)] for n, c in CORRUPTIONS.items()},
            "small": SMALL,
            "seed": config.seed,
        }

    def score(self, context: Context, problem: Classification) -> list[Score]:
        """extra: by_corruption {name: [accuracy at each strength]}, which constants, λ by fold, spread."""
        choices = [
            fitted_probe(context, fold, problem.labels, len(problem.classes)) for fold in problem.folds
        ]
        rows = problem.scored
        times = np.zeros(len(rows))
        for fold in problem.folds:
            times[np.searchsorted(rows, fold.test)] += 1

        def hits(features: NDArray[np.float32]) -> NDArray[np.float64]:
            """How often each scored picture is recognised, over the folds that score it; (n,) in [0, 1]."""
            right = np.zeros(len(rows))
            for fold, choice in zip(problem.folds, choices, strict=True):
                place = np.searchsorted(rows, fold.test)
                right[place] += choice.model.predict(features[place]) == problem.labels[fold.test]
            return right / times

        clean = hits(context.features(rows).at(rows))
        store = context.pixels(rows)
        keys = text_key(context.config.seed, "corruptions", context.catalog.column("image_id")[rows].tolist())
        table: dict[str, list[float]] = {}
        total = np.zeros(len(rows))
        for name in track(CORRUPTIONS, total=len(CORRUPTIONS), what="corruptions"):
            table[name] = []
            for strength in range(1, STRENGTHS + 1):
                change = partial(_change, name=name, strength=strength, keys=keys)
                found = hits(embed_changed(context, store, change))
                table[name].append(float(found.mean()))
                total += found
        mean = total / (len(CORRUPTIONS) * STRENGTHS)
        extra = {
            "by_corruption": table,
            "constants": "CIFAR-10-C" if store.size <= SMALL else "ImageNet-C",
            "lambdas": [choice.penalty for choice in choices],
        }
        how = context.config.of(LinearConfig).selection
        units = problem.units[rows]
        return [
            Score(metric, float(values.mean()), len(rows), how,
                  {**extra, **spread(values, units)}, Outcome(rows, values, units))
            for metric, values in zip(self.metrics, (mean, clean), strict=True)
        ]  # fmt: skip


def _change(images: Tensor, part: slice, *, name: str, strength: int, keys: NDArray[np.uint64]) -> Tensor:
    return corrupted(images, name, strength, keys[part])


def _listed(values: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    return [_listed(value) for value in values] if isinstance(values, tuple) else values
