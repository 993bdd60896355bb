"""Weighted k nearest neighbours by cosine: a vote weighs exp(s / T). Wu et al. 2018, arXiv:1805.01978.

The bank is every image fitted on, validation included; nothing is chosen. `knn-20-0.07` is DINO's and
solo-learn's, `knn-200-0.1` lightly's and InstDisc's. Cosines are worked out in chunks: memory is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.protocols.base import Context, Protocol, register
from sempairs.evaluation.scores import Score, classification_scores
from sempairs.evaluation.tasks.base import Classification
from sempairs.metrics import KNN_SETTINGS, knn_predict


class Knn(Protocol):
    """Accuracy under one setting. A bank of fewer than k images is taken whole."""

    takes = (Classification,)
    metrics = ("accuracy",)

    def __init__(self, k: int, temperature: float) -> None:
        self.name = f"knn-{k}-{temperature}"
        self.summary = f"{k} nearest neighbours by cosine, votes weighted exp(s / {temperature})"
        self.k, self.temperature = k, temperature

    def settings(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """k, temperature, version."""
        return {"k": self.k, "temperature": self.temperature, "version": 1}

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


for _setting in KNN_SETTINGS.values():
    assert _setting.temperature is not None
    register(Knn(_setting.k, _setting.temperature))
