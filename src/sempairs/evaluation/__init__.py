"""What an encoder is worth: frozen features, a few named protocols, one result schema.

`suite.evaluate` runs tasks on an encoder; a task (`tasks/`) says which images are fitted on and scored, a
protocol (`knn`, `linear`, `retrieval`) turns features into numbers, `leakage` refuses numbers on images that
pretraining saw, `records` is the row every number becomes. Names load when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.records import Result, append_results, read_results

if TYPE_CHECKING:
    from sempairs.evaluation.suite import DEFAULT_TASKS, evaluate, evaluate_random
    from sempairs.evaluation.tasks import TASKS, Task

__all__ = [
    "DEFAULT_TASKS",
    "TASKS",
    "EvaluationConfig",
    "Result",
    "Task",
    "append_results",
    "evaluate",
    "evaluate_random",
    "read_results",
]

_HOME = {
    "DEFAULT_TASKS": "suite",
    "TASKS": "tasks",
    "Task": "tasks",
    "evaluate": "suite",
    "evaluate_random": "suite",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
