"""scikit-learn's 1,797 handwritten digits: repeated stratified folds, as the set is small."""

from __future__ import annotations

from sempairs.catalog.sources.digits import KIND
from sempairs.catalog.table import Catalog
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.tasks.base import TASKS, Classification, Task, no_rest
from sempairs.evaluation.tasks.split import fold_up


@TASKS.register("digits", summary="scikit-learn's handwritten digits, repeated folds")
def digits(rest: str) -> Task:
    """Which digit an 8 x 8 image shows."""
    no_rest("digits", rest)
    rule = {"task": "digits", "version": 1, "label": "category"}
    return Task("digits", KIND, "linear-1", "accuracy", rule, _build)


def _build(catalog: Catalog, config: EvaluationConfig) -> Classification:
    return fold_up(catalog, config, catalog.column("category"))
