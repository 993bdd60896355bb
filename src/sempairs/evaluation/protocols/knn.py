"""Weighted k nearest neighbours by cosine: a vote weighs exp(s / T). Wu et al. 2018, arXiv:1805.01978.

The bank is every image fitted on, validation included; nothing is chosen. `knn-20-0.07` is DINO's and
solo-learn's, `knn-200-0.1` lightly's and InstDisc's. Cosines are worked out in chunks: memory is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import field_validator

from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.protocols.base import PROTOCOLS, Context, Protocol, ProtocolConfig
from sempairs.evaluation.scores import Score, classification_scores
from sempairs.evaluation.tasks.base import Classification
from sempairs.metrics import KNN_SETTINGS, knn_predict


class KnnConfig(ProtocolConfig):
    """Which of these are run where no protocol is asked for by name; it decides no number."""

    knn: tuple[Literal["knn-20-0.07", "knn-200-0.1"], ...] = ("knn-20-0.07", "knn-200-0.1")

    @field_validator("knn")
    @classmethod
    def _no_repeats(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("must not name a setting twice")
        return value


class Knn(Protocol):
    """Accuracy under one setting. A bank of fewer than k images is taken whole."""

    k: int
    temperature: float | None
    takes = (Classification,)
    metrics = ("accuracy",)
    Config = KnnConfig
    restated = ("knn",)

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """k, temperature."""
        return {"k": self.k, "temperature": self.temperature}

    def beside(self, config: EvaluationConfig) -> bool:
        """Where the setting `knn` names it."""
        return self.name in config.of(KnnConfig).knn

    def score(self, context: Context, problem: Classification) -> list[Score]:
        """extra: k, as far as the bank goes."""
        features = context.features(np.union1d(problem.fitted, problem.scored))
        predicted, used = [], self.k
        for fold in problem.folds:
            bank = np.concatenate([fold.fit, fold.validation])
            used = min(used, len(bank))
            predicted.append(
                knn_predict(
                    features.at(bank), problem.labels[bank], features.at(fold.test),
                    k=min(self.k, len(bank)), temperature=self.temperature,
                )
            )  # fmt: skip
        return classification_scores(problem, predicted, self.metrics, selection="none", extra={"k": used})


@PROTOCOLS.register
class Knn20(Knn):
    """As DINO and solo-learn have it."""

    name = "knn-20-0.07"
    k, temperature = KNN_SETTINGS["knn20"]
    summary = "20 nearest neighbours by cosine, votes weighted exp(s / 0.07)"


@PROTOCOLS.register
class Knn200(Knn):
    """As lightly and InstDisc have it."""

    name = "knn-200-0.1"
    k, temperature = KNN_SETTINGS["knn200"]
    summary = "200 nearest neighbours by cosine, votes weighted exp(s / 0.1)"
