"""Class collapse: are the fine classes within a coarse one still told apart?

Labels of a coarse level in pretraining can map all of a class to one point; coarse accuracy does not show it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.tasks import emoji
from sempairs.evaluation.tasks.base import TASKS, Classification, Problem, Task, no_rest

Int = NDArray[np.int64]


@dataclass(frozen=True)
class CoarseToFine(Classification):
    """A classification whose classes lie in coarser ones. parent: (K,), for each of `classes` its place in
    `coarse_classes`."""

    parent: Int = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    coarse_classes: tuple[str, ...] = ()

    @property
    def coarse(self) -> Int:
        """(N,) as `labels`, of the coarse classes."""
        return np.where(self.labels >= 0, self.parent[self.labels], -1)


@TASKS.register("emoji-coarse-to-fine", summary="subgroups of new drawings told apart within their group")
def emoji_coarse_to_fine(rest: str) -> Task:
    """`emoji-subgroup` with its groups: test concepts, drawn by seen designers."""
    no_rest("emoji-coarse-to-fine", rest)
    return nested("emoji-coarse-to-fine", "emoji-coarse-to-fine", emoji.emoji_subgroup(""))


@TASKS.register(
    "coarse-to-fine",
    summary="classes told apart within the branch of the tree they lie in",
    example="coarse-to-fine:SOURCE",
)
def coarse_to_fine(rest: str) -> Task:
    """What follows names any task whose labels are paths in a tree: `coarse-to-fine:folder:PATH`."""
    return nested(f"coarse-to-fine:{rest}", "coarse-to-fine", TASKS.get(rest))


def nested(name: str, family: str, task: Task) -> Task:
    """A task whose labels are paths, `coarse/fine`: coarse is all but the last segment."""
    rule = {"task": family, "version": 1, "coarse": "all but the last segment", "labels": dict(task.rule)}

    def build(catalog: Catalog, config: EvaluationConfig) -> Problem:
        problem = task.build(catalog, config)
        return _with_parents(problem) if isinstance(problem, Classification) else problem

    metric = "fine_within_coarse_accuracy"
    return replace(
        task, name=name, rule=rule, build=build, protocol="coarse-to-fine-1", metric=metric, beside=()
    )


def _with_parents(problem: Classification) -> CoarseToFine:
    names = [name.rpartition("/")[0] or name for name in problem.classes]
    coarse = tuple(sorted(set(names)))
    size = np.bincount([coarse.index(name) for name in names])
    if len(coarse) < 2 or size.max() < 2:
        remedy = "give a source whose categories are paths, such as animal/cat and animal/dog"
        got = f"{len(coarse)} coarse and {len(names)} fine classes"
        raise UserError(
            "the labels", "must hold two coarse classes, one of them with two fine ones", got, remedy
        )
    parent = np.array([coarse.index(name) for name in names], dtype=np.int64)
    held = {one.name: getattr(problem, one.name) for one in fields(Classification)}
    return CoarseToFine(**held, parent=parent, coarse_classes=coarse)
