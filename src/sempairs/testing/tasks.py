"""Checks of a task: its images are there, no split unit lies on both sides, its protocol can score it."""

from __future__ import annotations

import json

import numpy as np

from sempairs.catalog.sources import open_source
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.protocols import PROTOCOLS
from sempairs.evaluation.tasks.base import TASKS, Folded


def check_task(spec: str) -> None:
    """Run every check on the task called `spec`, with a path after a colon where it takes one.

    The problem is posed alike twice; rows lie in the catalogue; the parts of each fold share no image, and no
    unit where the task names units; its primary protocol takes the problem and gives the primary metric; rule
    and notes are JSON. Raises: AssertionError, UserError.
    """
    task, config = TASKS.get(spec), EvaluationConfig()
    catalog = open_source(task.source).scan().catalog
    problem, again = task.build(catalog, config), task.build(catalog, config)
    assert np.array_equal(problem.scored, again.scored) and np.array_equal(problem.fitted, again.fitted)
    assert len(problem.scored)
    for rows in (problem.scored, problem.fitted):
        assert rows.min(initial=0) >= 0 and rows.max(initial=0) < len(catalog)
    if isinstance(problem, Folded):
        for fold in problem.folds:
            parts = [fold.fit, fold.validation, fold.test]
            rows = np.concatenate(parts)
            assert len(np.unique(rows)) == len(rows)
            units = [set(problem.units[part].tolist()) for part in parts]
            assert not units[0] & units[2] and not units[1] & units[2]
    protocol = PROTOCOLS.get(task.protocol)
    assert isinstance(problem, protocol.takes)
    assert task.metric in protocol.metrics
    protocol.check(problem, config)
    for facts in (task.rule, problem.notes, problem.identity(config)):
        assert json.loads(json.dumps(dict(facts))) == dict(facts)
