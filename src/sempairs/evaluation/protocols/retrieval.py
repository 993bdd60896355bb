"""Retrieval by cosine: is the nearest gallery image a right one (top-1), and how well are all of them ranked
(mean average precision, ties sharing a rank)?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.protocols.base import PROTOCOLS, Context, Protocol
from sempairs.evaluation.scores import Outcome, Score, spread
from sempairs.evaluation.tasks.base import Retrieval
from sempairs.metrics import retrieval_scores


@PROTOCOLS.register
class CosineRetrieval(Protocol):
    """Top-1 and mean average precision over the queries; every query has a right answer."""

    name = "retrieval-1"
    takes = (Retrieval,)
    metrics = ("top_1", "mean_average_precision")
    summary = "nearest gallery image by cosine, and the ranking of all right ones"

    def constants(self, config: EvaluationConfig) -> Mapping[str, Any]:
        """similarity."""
        return {"similarity": "cosine"}

    def score(self, context: Context, problem: Retrieval) -> list[Score]:
        """extra: the spread over units."""
        features = context.features(problem.scored)
        found = retrieval_scores(
            features.at(problem.queries),
            problem.meaning[problem.queries],
            features.at(problem.gallery),
            problem.meaning[problem.gallery],
        )
        assert found.scored == len(problem.queries)
        units = problem.units[problem.queries]
        values = (
            (found.top1, found.hit),
            (found.mean_average_precision, np.asarray(found.average_precision)),
        )
        return [
            Score(
                metric,
                value,
                found.scored,
                "none",
                spread(each, units),
                Outcome(problem.queries, np.asarray(each, dtype=np.float64), units),
            )
            for metric, (value, each) in zip(self.metrics, values, strict=True)
        ]
