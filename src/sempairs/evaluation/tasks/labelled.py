"""Any source with labels as a task: its own splits, or a keyed, stratified 70/15/15."""

from __future__ import annotations

from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.tasks.base import TASKS, Classification, Task
from sempairs.evaluation.tasks.split import classify


@TASKS.register_for_sources
def labelled(spec: str) -> Task:
    """The category of the images of a source. Linear is primary; kNN is measured beside it."""
    rule = {"task": spec.partition(":")[0], "version": 1, "label": "category"}
    return Task(spec, spec, "linear-1", "accuracy", rule, _build)


def _build(catalog: Catalog, config: EvaluationConfig) -> Classification:
    from sempairs.catalog.splits import assign_splits

    if all(value is None for value in catalog.column("category")):
        remedy = "put the images of each class in a folder of its own"
        raise UserError("the labels", "must hold categories, and there is none", remedy=remedy)
    split = assign_splits(catalog, seed=config.seed).column("split")
    return classify(
        catalog, config, fit=split == "train", validation=split == "validation", test=split == "test"
    )
