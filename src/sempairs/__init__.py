"""sempairs: datasets of semantic pairs, pretraining on them, and controlled studies of what they bring.

Importing the package is light; each name below loads its stage when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_STAGES = {
    "catalog.sources": ("open_source",),
    "catalog.splits": ("assign_splits",),
    "catalog.table": ("Catalog",),
    "config": ("load_config",),
    "encoders": ("EncoderConfig", "build_encoder", "embed", "import_encoder", "load_encoder", "save_encoder"),
    "errors": ("UserError",),
    "evaluation": ("EvaluationConfig", "Result", "evaluate", "evaluate_random", "read_results"),
    "methods": ("METHODS", "build_method"),
    "pairs.config": ("PairsConfig",),
    "pairs.plan": ("PairPlan", "plan_pairs"),
    "pairs.stats": ("pair_stats",),
    "pairs.table": ("PairSet",),
    "study": ("StudyRecipe", "load_study", "run_study", "write_report"),
    "training": ("PretrainRecipe", "pretrain"),
    "views.config": ("ViewsConfig",),
    "views.maker": ("ViewMaker",),
    "views.store": ("PixelStore",),
}
_HOME = {name: f"sempairs.{stage}" for stage, names in _STAGES.items() for name in names}
__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'sempairs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
