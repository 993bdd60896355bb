"""Retrieval by cosine: is the nearest gallery image a right one (top-1), and how well are all of them ranked
(mean average precision, ties sharing a rank)?"""

from __future__ import annotations

from sempairs.evaluation.scores import Features, Score, spread
from sempairs.evaluation.tasks.base import Retrieval
from sempairs.metrics import retrieval_scores

NAME = "retrieval-1"


def score(features: Features, problem: Retrieval) -> list[Score]:
    """top_1 and mean_average_precision over the queries; every query has a right answer."""
    found = retrieval_scores(
        features.at(problem.queries),
        problem.meaning[problem.queries],
        features.at(problem.gallery),
        problem.meaning[problem.gallery],
    )
    assert found.scored == len(problem.queries)
    units = problem.units[problem.queries]
    settings = {"similarity": "cosine", "version": 1}
    return [
        Score(NAME, metric, value, found.scored, "none", settings, spread(each, units))
        for metric, value, each in (
            ("top_1", found.top1, found.hit),
            ("mean_average_precision", found.mean_average_precision, found.average_precision),
        )
    ]
