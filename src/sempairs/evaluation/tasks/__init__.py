"""The tasks, one file a family."""

from __future__ import annotations

from sempairs.evaluation.tasks.base import TASKS, Classification, Fold, MultiLabel, Problem, Retrieval, Task

__all__ = ["TASKS", "Classification", "Fold", "MultiLabel", "Problem", "Retrieval", "Task"]
