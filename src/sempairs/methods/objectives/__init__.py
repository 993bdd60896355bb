"""What the loss of a pair is made of, one objective a file; see `base`."""

from __future__ import annotations

from sempairs.methods.objectives.base import OBJECTIVES, AnyObjectiveConfig, ObjectiveConfig, Term
from sempairs.methods.objectives.pair import PairObjective

__all__ = ["OBJECTIVES", "AnyObjectiveConfig", "ObjectiveConfig", "PairObjective", "Term"]
