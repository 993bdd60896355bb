"""Full fine-tuning. Kornblith et al. 2019, arXiv:1805.08974, A.4.2, as Ericsson et al. 2021 run it
(arXiv:2011.13377, finetune.py).

5,000 steps of SGD with Nesterov momentum .9, batches of 64, cosine to 0, random crops and flips. The rate is
one of logspace(-4, -1, 4), the decay w / rate for w of 0 and logspace(-6, -3, 4), as there: 20 runs, the best
on validation images (ties: the largest rate, then the smallest decay), then one run on both parts, whose last
step is scored. Normalisation layers are in training mode. Departures: the choice is by accuracy whatever the
task's metric; the central square, scored whole, resized by the triangle filter in place of a bicubic one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sempairs.errors import UserError
from sempairs.evaluation import sgd
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.protocols.base import Context, Protocol, register
from sempairs.evaluation.scores import Score, classification_scores
from sempairs.evaluation.tasks.base import Classification, Fold

RATES = tuple(float(rate) for rate in np.logspace(-4, -1, 4))
DECAYS = (0.0, *(float(decay) for decay in np.logspace(-6, -3, 4)))


class FineTune(Protocol):
    """Accuracy, and its mean over classes, of the whole network trained."""

    name = "fine-tune-1"
    takes = (Classification,)
    metrics = ("accuracy", "mean_per_class_accuracy")
    summary = (
        "the whole network: 5,000 steps, Nesterov, cosine, rate and decay chosen on validation (Ericsson)"
    )
    frozen = False

    def settings(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """The recipe, the grid, the views, version."""
        recipe = _recipe(config, 0.0, 0.0).settings()
        for chosen in ("rate", "trunk_rate", "weight_decay"):
            del recipe[chosen]
        grid = [list(pair) for pair in _grid(config)]
        return {**recipe, "grid_of_rate_and_decay": grid, "views": sgd.VIEWS, "version": 1}

    def score(self, context: Context, problem: Classification) -> list[Score]:
        """extra: chosen, the rate and decay, and validation, accuracy by rate and decay (null where the loss
        was not finite, and where one was given and so not tried), by fold."""
        fitted, test = sgd.Images(context, problem.fitted), sgd.Images(context, problem.scored)
        predicted, chosen, tried = [], [], []
        for fold in problem.folds:
            found = self._search(context, problem, fold, fitted)
            best = max(found, key=lambda entry: -1.0 if entry[2] is None else entry[2])
            if best[2] is None and len(found) > 1:
                raise UserError(
                    f"protocol {self.name}", "cannot train this encoder: the loss is not finite at any rate"
                )
            rows = np.concatenate([fold.fit, fold.validation])
            try:
                model = sgd.tune(
                    context, rows, problem.labels[rows], len(problem.classes),
                    _recipe(context.config, best[0], best[1]), fitted, what=self.name,
                )  # fmt: skip
            except sgd.Diverged as error:
                raise UserError(f"protocol {self.name}", f"cannot train this encoder: {error}") from None
            predicted.append(sgd.predict(context, model, test, fold.test))
            chosen.append(list(best[:2]))
            tried.append([list(entry) for entry in found])
        return classification_scores(
            problem, predicted, self.metrics,
            selection=f"{_chosen(context.config)}, last step",
            extra={"chosen": chosen, "validation": tried},
        )  # fmt: skip

    def _search(
        self, context: Context, problem: Classification, fold: Fold, images: sgd.Images
    ) -> list[tuple[float, float, float | None]]:
        """Rate, decay and validation accuracy of every run of the grid; of one, nothing needs to be run."""
        grid = _grid(context.config)
        if len(grid) == 1:
            return [(*grid[0], None)]
        found: list[tuple[float, float, float | None]] = []
        truth = problem.labels[fold.validation]
        for i, (rate, decay) in enumerate(grid, 1):
            recipe, what = _recipe(context.config, rate, decay), f"{self.name} {i}/{len(grid)}"

            def accuracy(context: Context, recipe: sgd.Recipe = recipe, what: str = what) -> float | None:
                try:
                    model = sgd.tune(
                        context, fold.fit, problem.labels[fold.fit], len(problem.classes), recipe, images,
                        what=what,
                    )  # fmt: skip
                except sgd.Diverged:
                    return None
                guess = sgd.predict(context, model, images, fold.validation)
                return float((guess == truth).mean())

            key = [rate, decay, fold.fit.tolist(), fold.validation.tolist()]
            found.append((rate, decay, context.once(key, accuracy)))
        return found


def _chosen(config: EvaluationConfig) -> str:
    return "rate and decay on validation" if len(_grid(config)) > 1 else "none: one rate and decay given"


def _grid(config: EvaluationConfig) -> list[tuple[float, float]]:
    """Pairs of rate and weight decay: largest rate first, then smallest decay first."""
    rates, decays = config.fine_tune_rates or RATES, config.fine_tune_decays or DECAYS
    return [(rate, decay / rate) for rate in sorted(rates, reverse=True) for decay in sorted(decays)]


def _recipe(config: EvaluationConfig, rate: float, decay: float) -> sgd.Recipe:
    recipe = sgd.Recipe(
        "5000 steps", batch=64, rate=rate, trunk_rate=rate, schedule="cosine", nesterov=True,
        weight_decay=decay,
    )  # fmt: skip
    return replace(recipe, length=f"{config.steps} steps") if config.steps else recipe


register(FineTune())
