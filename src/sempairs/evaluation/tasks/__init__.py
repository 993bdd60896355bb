"""The tasks, one file a family. Importing this package registers them all."""

from sempairs.evaluation.tasks import digits, emoji, fashion_mnist, stamps
from sempairs.evaluation.tasks.base import TASKS, Classification, Fold, Problem, Retrieval, Task

__all__ = [
    "TASKS",
    "Classification",
    "Fold",
    "Problem",
    "Retrieval",
    "Task",
    "digits",
    "emoji",
    "fashion_mnist",
    "stamps",
]
