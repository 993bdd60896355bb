"""Self-supervised methods, one a file; see `base` for what a method is and how one is added."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, TypeAlias, Union

from pydantic import BeforeValidator, Field

from sempairs.methods.base import (
    METHODS,
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
from sempairs.registry import known_name

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

# Importing a file registers its method, so a new method is a new file and nothing else.
for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")


if TYPE_CHECKING:
    AnyMethodConfig: TypeAlias = MethodConfig
else:
    _union = Union[tuple(METHODS.get(name).Config for name in METHODS.names())]  # noqa: UP007
    AnyMethodConfig = Annotated[_union, Field(discriminator="name"), BeforeValidator(known_name(METHODS))]
