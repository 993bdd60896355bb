"""Self-supervised methods, one a file; see `base` for what a method is and how one is added."""

from __future__ import annotations

from sempairs.methods.base import (
    METHODS,
    AnyMethodConfig,
    Method,
    MethodConfig,
    ParamGroup,
    ParamRule,
    Preset,
    StepOutput,
    build_method,
)
from sempairs.methods.objectives import OBJECTIVES, AnyObjectiveConfig, ObjectiveConfig, PairObjective
from sempairs.methods.pairwise import PairMethod

__all__ = [
    "METHODS",
    "OBJECTIVES",
    "AnyMethodConfig",
    "AnyObjectiveConfig",
    "Method",
    "MethodConfig",
    "ObjectiveConfig",
    "PairMethod",
    "PairObjective",
    "ParamGroup",
    "ParamRule",
    "Preset",
    "StepOutput",
    "build_method",
]
