"""Pretraining: one loop on Lightning Fabric, resumable bit for bit.

recipe: what is asked for. data: images, pairs, batches. loop: the steps, with optimisers and schedules.
monitor: whether the features stay healthy. folder, checkpoint, trackers, provenance: what lands in the run
folder. run: all of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sempairs.runs.signals import Interrupted as Interrupted
    from sempairs.training.recipe import PretrainRecipe as PretrainRecipe
    from sempairs.training.run import RunSummary as RunSummary
    from sempairs.training.run import pretrain as pretrain

_HOME = {
    "PretrainRecipe": "sempairs.training.recipe",
    "Interrupted": "sempairs.runs.signals",
    "RunSummary": "sempairs.training.run",
    "pretrain": "sempairs.training.run",
}
__all__ = ["Interrupted", "PretrainRecipe", "RunSummary", "pretrain"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'sempairs.training' has no attribute {name!r}")
