"""Weighted k nearest neighbours by cosine: a vote weighs exp(s / T). Wu et al. 2018, arXiv:1805.01978.

The bank is every image fitted on, validation included; nothing is chosen.
"""

from __future__ import annotations

import numpy as np

from sempairs.evaluation.scores import Features, Score, classification_scores
from sempairs.evaluation.tasks.base import Classification
from sempairs.metrics import KNN_SETTINGS, knn_predict

PROTOCOLS = {f"knn-{s.k}-{s.temperature}": s for s in KNN_SETTINGS.values()}
"""`knn-20-0.07` (DINO, solo-learn) and `knn-200-0.1` (lightly, InstDisc)."""


def score(features: Features, problem: Classification, name: str) -> list[Score]:
    """Accuracy under the setting called `name`. A bank of fewer than k images is taken whole."""
    setting = PROTOCOLS[name]
    predicted, used = [], setting.k
    for fold in problem.folds:
        bank = np.concatenate([fold.fit, fold.validation])
        used = min(used, len(bank))
        predicted.append(
            knn_predict(
                features.at(bank), problem.labels[bank], features.at(fold.test),
                k=min(setting.k, len(bank)), temperature=setting.temperature,
            )
        )  # fmt: skip
    return classification_scores(
        name,
        problem,
        predicted,
        ("accuracy",),
        selection="none",
        settings={"k": setting.k, "temperature": setting.temperature, "version": 1},
        extra={"k": used},
    )
