"""Linear probes by SGD on the frozen encoder, with random crops and flips of the training images.

`linear-moco-1`: He et al. 2020, arXiv:1911.05722, section 4.1, and main_lincls.py: 100 epochs, rate 30 for
batches of 256, momentum .9, no decay, x .1 at epochs 60 and 80, first weights normal of deviation .01.
`linear-simclr-1`: Chen et al. 2020, arXiv:2002.05709, B.6, as lightly's benchmark runs it: 90 epochs, rate .1
for batches of 256, momentum .9, no decay, cosine, the last batch left out if it is not full.

Nothing is chosen: validation images are fitted on too, and the weights are those of the last epoch (lightly's
script reports the best). Departures: pictures are the central square (here stored at 8/7 of the input size,
the share of Resize(256) to CenterCrop(224)), and are scored whole. With `probe_views: none` the head is
trained on the features of whole images, without augmentation: much cheaper, and other settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.probes import sgd
from sempairs.evaluation.protocols.base import PROTOCOLS, Context, Protocol
from sempairs.evaluation.scores import Score, classification_scores
from sempairs.evaluation.tasks.base import Classification


class LinearSGDConfig(sgd.EpochsConfig):
    """probe_views: what the head is fitted on: random crops and flips, or features of whole images."""

    probe_views: Literal["augmented", "none"] = "augmented"


class LinearSGD(Protocol):
    """Accuracy, and its mean over classes, of a linear layer trained for a fixed number of epochs."""

    takes = (Classification,)
    metrics = ("accuracy", "mean_per_class_accuracy")
    Config = LinearSGDConfig
    restated = ("epochs", "probe_views")
    frozen = False
    recipe: sgd.Recipe

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """The recipe, the views."""
        own = config.of(LinearSGDConfig)
        views = sgd.VIEWS if own.probe_views == "augmented" else "none: features of whole images"
        return {**own.taken(self.recipe).settings(), "views": views}

    def score(self, context: Context, problem: Classification) -> list[Score]:
        """extra: steps, by fold."""
        own = context.config.of(LinearSGDConfig)
        recipe, predicted, steps = own.taken(self.recipe), [], []
        features = context.features(problem.scored)
        for fold in problem.folds:
            rows = np.concatenate([fold.fit, fold.validation])
            try:
                head = sgd.probe(
                    context,
                    rows,
                    problem.labels[rows],
                    len(problem.classes),
                    recipe,
                    augmented=own.probe_views == "augmented",
                    what=self.name,
                )
            except sgd.Diverged as error:
                raise UserError(
                    f"protocol {self.name}", f"cannot be fitted to these features: {error}"
                ) from None
            steps.append(sgd.length(len(rows), recipe)[0])
            predicted.append(sgd.predict_features(head, features.at(fold.test)))
        return classification_scores(
            problem, predicted, self.metrics, selection="none, last epoch", extra={"steps": steps}
        )


@PROTOCOLS.register
class LinearMoCo(LinearSGD):
    """As MoCo has it."""

    name = "linear-moco-1"
    summary = "linear layer by SGD on augmented views of the frozen encoder: 100 epochs, rate 30 (MoCo)"
    recipe = sgd.Recipe(
        "100 epochs", batch=256, rate=30.0, rate_for=256, schedule="steps", factor=0.1, head="normal .01"
    )


@PROTOCOLS.register
class LinearSimCLR(LinearSGD):
    """As lightly runs SimCLR's."""

    name = "linear-simclr-1"
    summary = (
        "linear layer by SGD on augmented views of the frozen encoder: 90 epochs, cosine (SimCLR, lightly)"
    )
    recipe = sgd.Recipe("90 epochs", batch=256, rate=0.1, rate_for=256, schedule="cosine", drop_last=True)
