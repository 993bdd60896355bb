"""Class collapse by linear probes on coarse and on fine labels.

Supervised contrast maps a class to a point (Graf et al. 2021, arXiv:2102.08817), and what lies within it is
lost: transfer from coarse to fine classes shows it (Chen et al. 2022, arXiv:2204.07596).

The value is the accuracy of the probe fitted on fine labels when it may only name the fine classes of an
image's true coarse class, over images whose coarse class has at least two. An encoder whose classes have
collapsed has a high `coarse_accuracy` and a value near `extra["majority"]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.probes.logistic import Model
from sempairs.evaluation.protocols.base import PROTOCOLS, Context, Protocol
from sempairs.evaluation.protocols.linear import LinearConfig, fitted_probe
from sempairs.evaluation.scores import Outcome, Score, spread
from sempairs.evaluation.tasks.coarse_to_fine import CoarseToFine


@PROTOCOLS.register
class CoarseToFineProbe(Protocol):
    """Fine within coarse, fine, and coarse accuracy, each probe with its own λ."""

    name = "coarse-to-fine-1"
    takes = (CoarseToFine,)
    metrics = ("fine_within_coarse_accuracy", "fine_accuracy", "coarse_accuracy")
    summary = "linear-1 on fine and on coarse labels, and the fine one within the true coarse class"
    Config = LinearConfig
    restated = ("lambdas",)

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """The probe's settings."""
        return {"probe": PROTOCOLS.get("linear-1").settings(config)}

    def score(self, context: Context, problem: CoarseToFine) -> list[Score]:
        """extra: chance, the mean of one by the number of fine classes in an image's coarse one; majority,
        what naming the commonest of these among the images fitted on would reach; the spread."""
        features = context.features(np.union1d(problem.fitted, problem.scored))
        siblings = np.bincount(problem.parent)
        rows, found, chance, majority = [], [], [], []
        for fold in problem.folds:
            fine = fitted_probe(context, fold, problem.labels, len(problem.classes)).model
            coarse = fitted_probe(context, fold, problem.coarse, len(problem.coarse_classes)).model
            truth, above = problem.labels[fold.test], problem.coarse[fold.test]
            scores = _scores(fine, features.at(fold.test))
            own = problem.parent[None] == above[:, None]
            within = np.where(own, scores, -np.inf).argmax(1)
            common = np.bincount(
                problem.labels[np.concatenate([fold.fit, fold.validation])], minlength=len(problem.classes)
            )
            commonest = np.where(own, common, -1).argmax(1)
            rows.append(fold.test)
            found.append(
                [within == truth, scores.argmax(1) == truth, coarse.predict(features.at(fold.test)) == above]
            )
            chance.append(1 / siblings[above])
            majority.append(commonest == truth)
        place = np.concatenate(rows)
        images, of = np.unique(place, return_inverse=True)
        asked = siblings[problem.coarse[images]] >= 2
        extra = {
            "chance": float(np.concatenate(chance)[asked[of]].mean()),
            "majority": float(np.concatenate(majority)[asked[of]].mean()),
            "coarse_classes": len(problem.coarse_classes),
            "images_of_coarse_classes_of_one": int((~asked).sum()),
        }
        how = context.config.of(LinearConfig).selection
        scores_ = []
        for metric, values in zip(self.metrics, np.concatenate(found, axis=1), strict=True):
            share = np.bincount(of, values) / np.bincount(of)
            keep = asked if metric == self.metrics[0] else np.ones(len(images), dtype=bool)
            outcome = Outcome(images[keep], share[keep], problem.units[images[keep]])
            more = {**extra, **spread(outcome.values, outcome.units)}
            value = float(outcome.values.mean())
            scores_.append(Score(metric, value, int(keep.sum()), how, more, outcome))
        return scores_


def _scores(model: Model, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, K), as `Model.predict` ranks them."""
    x = torch.from_numpy(np.ascontiguousarray(features)).to(model.weight) / model.scale
    return np.asarray((x @ model.weight + model.bias).cpu().numpy())
