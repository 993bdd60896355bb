"""The tasks, one file a family."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from sempairs.evaluation.tasks.base import TASKS, Classification, Fold, MultiLabel, Problem, Retrieval, Task

__all__ = ["TASKS", "Classification", "Fold", "MultiLabel", "Problem", "Retrieval", "Task"]

# Importing a file registers its tasks, so a new family is a new file and nothing else.
for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")
