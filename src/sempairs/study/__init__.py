"""The controlled study: arms that differ in one thing, several seeds, one primary test, one report.

recipe.py what is asked; plan.py every cell, frozen before anything runs; runner.py and cell.py one process
a cell; ledger.py what happened, in order; seal.py what binds plan, code, data, weights and results to each
other; certificate.py what was matched; statistics.py, analysis.py and verdict.py what can be claimed;
gathered.py all of it read from a folder and checked; report.py, summary.py, page.py, figures.py and
templates/ how it is shown. Names load when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sempairs.study.gathered import Gathered, gather
    from sempairs.study.plan import Plan, make_plan
    from sempairs.study.recipe import StudyRecipe, load_study
    from sempairs.study.report import write_report
    from sempairs.study.runner import run_study

__all__ = [
    "Gathered",
    "Plan",
    "StudyRecipe",
    "gather",
    "load_study",
    "make_plan",
    "run_study",
    "write_report",
]

_HOME = {
    "Gathered": "gathered",
    "Plan": "plan",
    "StudyRecipe": "recipe",
    "gather": "gathered",
    "load_study": "recipe",
    "make_plan": "plan",
    "run_study": "runner",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
