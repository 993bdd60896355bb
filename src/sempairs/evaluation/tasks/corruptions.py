"""Robustness: labels of pictures under common corruptions, by a probe that has seen clean ones only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sempairs.catalog.table import Catalog
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.tasks import emoji, sampling
from sempairs.evaluation.tasks.base import TASKS, Classification, Fold, Problem, Task, no_rest

MAX_IMAGES = 1000
"""Test images corrupted: a keyed stratified subset, as each is seen sixty times."""


@TASKS.register("emoji-corruptions", summary="subgroup of new drawings under common corruptions")
def emoji_corruptions(rest: str) -> Task:
    """`emoji-subgroup`, on corrupted pictures."""
    no_rest("emoji-corruptions", rest)
    return _corrupted("emoji-corruptions", "emoji-corruptions", emoji.emoji_subgroup(""))


@TASKS.register(
    "corruptions", summary="labels of any source or task, on corrupted pictures", example="corruptions:SOURCE"
)
def corruptions(rest: str) -> Task:
    """What follows names any task with labels: `corruptions:folder:PATH`, `corruptions:transfer-dtd:PATH`."""
    return _corrupted(f"corruptions:{rest}", "corruptions", TASKS.get(rest))


def _corrupted(name: str, family: str, task: Task) -> Task:
    rule: Mapping[str, Any] = {
        "task": family, "version": 1, "images": MAX_IMAGES, "labels": dict(task.rule)
    }  # fmt: skip

    def build(catalog: Catalog, config: EvaluationConfig) -> Problem:
        problem = task.build(catalog, config)
        return _fewer(catalog, problem, config) if isinstance(problem, Classification) else problem

    metric = "corrupted_accuracy"
    return replace(
        task, name=name, rule=rule, build=build, protocol="corruptions-1", metric=metric, beside=()
    )


def _fewer(catalog: Catalog, problem: Classification, config: EvaluationConfig) -> Classification:
    """With `MAX_IMAGES` of the scored images at most; those fitted on stay."""
    rows = problem.scored
    ids = catalog.column("image_id")[rows].tolist()
    kept = rows[sampling.subset(problem.labels[rows], ids, MAX_IMAGES, seed=config.seed)]
    folds = [Fold(f.fit, f.validation, f.test[np.isin(f.test, kept)]) for f in problem.folds]
    notes = {**problem.notes, "test_images_left_out": len(rows) - len(kept)}
    return replace(problem, folds=tuple(fold for fold in folds if len(fold.test)), notes=notes)
