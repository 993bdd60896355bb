"""The linear probe by L-BFGS, λ chosen on validation. Ericsson et al. 2021, arXiv:2011.13377; see
`probes.linear` for the settings and departures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.probes import linear
from sempairs.evaluation.probes.logistic import MAX_STEPS
from sempairs.evaluation.protocols.base import PROTOCOLS, Context, Protocol, ProtocolConfig
from sempairs.evaluation.scores import Score, classification_scores
from sempairs.evaluation.tasks.base import Classification, Fold

Int = NDArray[np.int64]


class LinearConfig(ProtocolConfig):
    """lambdas: the regularisation strengths λ, as a list, or n for Ericsson's logspace(-6, 5, n)."""

    lambdas: int | tuple[float, ...] = 45

    @field_validator("lambdas")
    @classmethod
    def _a_grid(cls, value: int | tuple[float, ...]) -> int | tuple[float, ...]:
        if isinstance(value, int):
            if not 1 <= value <= 200:
                raise ValueError("must be a list, or a number of strengths from 1 to 200")
        elif not value or min(value) <= 0:
            raise ValueError("must be a list of numbers greater than 0")
        return value

    @property
    def grid(self) -> tuple[float, ...]:
        """The strengths in increasing order."""
        if isinstance(self.lambdas, int):
            return tuple(float(value) for value in np.logspace(-6, 5, self.lambdas))
        return tuple(sorted(set(self.lambdas)))

    @property
    def selection(self) -> str:
        """How λ is chosen."""
        return "lambda on validation" if len(self.grid) > 1 else "none: one lambda given"


def fitted_probe(context: Context, fold: Fold, labels: Int, classes: int) -> linear.Choice:
    """The probe of a fold's images with `labels` (N,), in [0, classes); fitted once for all that ask."""
    rows = np.concatenate([fold.fit, fold.validation])
    own = labels[rows]
    key = (Linear.name, rows.tobytes(), len(fold.fit), own.tobytes(), classes)
    if key not in context.known:
        places = np.arange(len(rows))
        context.known[key] = linear.choose_and_refit(
            context.features(rows).at(rows), own, classes, context.config.of(LinearConfig).grid,
            fit=places[: len(fold.fit)], validation=places[len(fold.fit) :], device=context.device,
        )  # fmt: skip
    found = context.known[key]
    assert isinstance(found, linear.Choice)
    return found


@PROTOCOLS.register
class Linear(Protocol):
    """Accuracy, and its mean over classes, with λ chosen and refitted in each fold."""

    name = "linear-1"
    takes = (Classification,)
    metrics = ("accuracy", "mean_per_class_accuracy")
    summary = "logistic regression by L-BFGS on frozen features, λ of a grid chosen on validation (Ericsson)"
    Config = LinearConfig
    restated = ("lambdas",)

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """λ, scaling, tolerances, the most steps a fit."""
        return {
            "lambdas": list(config.of(LinearConfig).grid),
            "scaling": "root mean square",
            "tolerances": [linear.PATH_TOLERANCE, linear.REFIT_TOLERANCE],
            "max_steps": MAX_STEPS,
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
            selection=context.config.of(LinearConfig).selection,
            extra={
                "lambdas": [choice.penalty for choice in choices],
                "validation": [sorted(map(list, choice.validation.items())) for choice in choices],
                "lambdas_at_edge": sum(choice.at_edge for choice in choices),
                "converged": all(choice.model.converged for choice in choices),
            },
        )
