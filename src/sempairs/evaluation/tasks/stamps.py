"""Tux Paint's stamps, many of them photographs: the topmost category, repeated stratified folds."""

from __future__ import annotations

import numpy as np

from sempairs.catalog.sources.stamps import KIND
from sempairs.catalog.table import Catalog
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.tasks.base import TASKS, Classification, Task
from sempairs.evaluation.tasks.split import fold_up


@TASKS.register(
    "stamps", summary="topmost category of Tux Paint's stamps, repeated folds", example="stamps:PATH"
)
def stamps(rest: str) -> Task:
    """Which of the topmost folders (animals, food, town, ...) a stamp is in."""
    rule = {"task": "stamps", "version": 1, "label": "category, topmost"}
    spec = f"{KIND}:{rest}"
    return Task(spec, spec, "linear-1", "accuracy", rule, _build)


def _build(catalog: Catalog, config: EvaluationConfig) -> Classification:
    topmost = [None if c is None else c.split("/", 1)[0] for c in catalog.column("category")]
    return fold_up(catalog, config, np.array(topmost, dtype=object))
