"""The linear probe by L-BFGS, λ chosen on validation. Ericsson et al. 2021, arXiv:2011.13377; see
`evaluation.linear` for the settings and departures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sempairs.evaluation import linear
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.logistic import MAX_STEPS
from sempairs.evaluation.protocols.base import Context, Protocol, register
from sempairs.evaluation.scores import Score, classification_scores
from sempairs.evaluation.tasks.base import Classification, Fold

Int = NDArray[np.int64]


def fitted_probe(context: Context, fold: Fold, labels: Int, classes: int) -> linear.Choice:
    """The probe of a fold's images with `labels` (N,), in [0, classes); fitted once for all that ask."""
    rows = np.concatenate([fold.fit, fold.validation])
    own = labels[rows]
    key = (Linear.name, rows.tobytes(), len(fold.fit), own.tobytes(), classes)
    if key not in context.known:
        places = np.arange(len(rows))
        context.known[key] = linear.choose_and_refit(
            context.features(rows).at(rows), own, classes, context.config.lambda_grid,
            fit=places[: len(fold.fit)], validation=places[len(fold.fit) :], device=context.device,
        )  # fmt: skip
    found = context.known[key]
    assert isinstance(found, linear.Choice)
    return found


class Linear(Protocol):
    """Accuracy, and its mean over classes, with λ chosen and refitted in each fold."""

    name = "linear-1"
    takes = (Classification,)
    metrics = ("accuracy", "mean_per_class_accuracy")
    summary = "logistic regression by L-BFGS on frozen features, λ of a grid chosen on validation (Ericsson)"

    def settings(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """λ, scaling, tolerances, the most steps a fit, version."""
        return {
            "lambdas": list(config.lambda_grid),
            "scaling": "root mean square",
            "tolerances": [linear.PATH_TOLERANCE, linear.REFIT_TOLERANCE],
            "max_steps": MAX_STEPS,
            "version": 1,
        }

    def score(self, context: Context, problem: Classification) -> list[Score]:
        """extra: λ by fold, validation accuracy by λ, folds with λ at an end of the grid, convergence.

        Tasks that fit the same images share the probe.
        """
        features = context.features(np.union1d(problem.fitted, problem.scored))
        predicted, choices = [], []
        for fold in problem.folds:
            choices.append(fitted_probe(context, fold, problem.labels, len(problem.classes)))
            predicted.append(choices[-1].model.predict(features.at(fold.test)))
        return classification_scores(
            problem,
            predicted,
            self.metrics,
            selection="lambda on validation" if context.config.chooses_lambda else "none: one lambda given",
            extra={
                "lambdas": [choice.penalty for choice in choices],
                "validation": [sorted(map(list, choice.validation.items())) for choice in choices],
                "lambdas_at_edge": sum(choice.at_edge for choice in choices),
                "converged": all(choice.model.converged for choice in choices),
            },
        )


register(Linear())
