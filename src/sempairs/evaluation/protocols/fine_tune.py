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
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.probes import sgd
from sempairs.evaluation.protocols.base import PROTOCOLS, Context, Protocol, ProtocolConfig
from sempairs.evaluation.scores import Score, classification_scores
from sempairs.evaluation.tasks.base import Classification, Fold

RATES = tuple(float(rate) for rate in np.logspace(-4, -1, 4))
DECAYS = (0.0, *(float(decay) for decay in np.logspace(-6, -3, 4)))


class FineTuneConfig(ProtocolConfig):
    """The length of a run, and what rate and decay are chosen among: rates, and decays times the rate."""

    steps: Annotated[int, Field(ge=1)] = 5000
    fine_tune_rates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = RATES
    fine_tune_decays: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = DECAYS

    @property
    def grid(self) -> list[tuple[float, float]]:
        """Pairs of rate and weight decay: largest rate first, then smallest decay first."""
        rates, decays = sorted(self.fine_tune_rates, reverse=True), sorted(self.fine_tune_decays)
        return [(rate, decay / rate) for rate in rates for decay in decays]

    @property
    def selection(self) -> str:
        """How rate and decay are chosen."""
        return "rate and decay on validation" if len(self.grid) > 1 else "none: one rate and decay given"

    def recipe(self, rate: float, decay: float) -> sgd.Recipe:
        """Of one run."""
        return sgd.Recipe(
            f"{self.steps} steps", batch=64, rate=rate, trunk_rate=rate, schedule="cosine", nesterov=True,
            weight_decay=decay,
        )  # fmt: skip


@PROTOCOLS.register
class FineTune(Protocol):
    """Accuracy, and its mean over classes, of the whole network trained."""

    name = "fine-tune-1"
    takes = (Classification,)
    metrics = ("accuracy", "mean_per_class_accuracy")
    summary = (
        "the whole network: 5,000 steps, Nesterov, cosine, rate and decay chosen on validation (Ericsson)"
    )
    Config = FineTuneConfig
    restated = ("steps", "fine_tune_rates", "fine_tune_decays")
    frozen = False

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """The recipe, the grid, the views."""
        own = config.of(FineTuneConfig)
        recipe = own.recipe(0.0, 0.0).settings()
        for chosen in ("rate", "trunk_rate", "weight_decay"):
            del recipe[chosen]
        grid = [list(pair) for pair in own.grid]
        return {**recipe, "grid_of_rate_and_decay": grid, "views": sgd.VIEWS}

    def score(self, context: Context, problem: Classification) -> list[Score]:
        """extra: chosen, the rate and decay, and validation, accuracy by rate and decay (null where the loss
        was not finite, and where one was given and so not tried), by fold."""
        own = context.config.of(FineTuneConfig)
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
                    own.recipe(best[0], best[1]), fitted, what=self.name,
                )  # fmt: skip
            except sgd.Diverged as error:
                raise UserError(f"protocol {self.name}", f"cannot train this encoder: {error}") from None
            predicted.append(sgd.predict(context, model, test, fold.test))
            chosen.append(list(best[:2]))
            tried.append([list(entry) for entry in found])
        return classification_scores(
            problem, predicted, self.metrics,
            selection=f"{own.selection}, last step",
            extra={"chosen": chosen, "validation": tried},
        )  # fmt: skip

    def _search(
        self, context: Context, problem: Classification, fold: Fold, images: sgd.Images
    ) -> list[tuple[float, float, float | None]]:
        """Rate, decay and validation accuracy of every run of the grid; of one, nothing needs to be run."""
        own = context.config.of(FineTuneConfig)
        grid = own.grid
        if len(grid) == 1:
            return [(*grid[0], None)]
        found: list[tuple[float, float, float | None]] = []
        truth = problem.labels[fold.validation]
        for i, (rate, decay) in enumerate(grid, 1):
            recipe, what = own.recipe(rate, decay), f"{self.name} {i}/{len(grid)}"

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
