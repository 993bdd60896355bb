"""What the loss of a pair is made of, one objective a file; see `base`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, TypeAlias, Union

from pydantic import BeforeValidator, Field

from sempairs.methods.objectives.base import OBJECTIVES, ObjectiveConfig, Term
from sempairs.methods.objectives.pair import PairObjective
from sempairs.registry import known_name

__all__ = ["OBJECTIVES", "AnyObjectiveConfig", "ObjectiveConfig", "PairObjective", "Term"]

# Importing a file registers its objective, so a new objective is a new file and nothing else.
for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")

if TYPE_CHECKING:
    AnyObjectiveConfig: TypeAlias = ObjectiveConfig
else:
    _union = Union[tuple(OBJECTIVES.get(name) for name in OBJECTIVES.names())]  # noqa: UP007
    AnyObjectiveConfig = Annotated[
        _union, Field(discriminator="name"), BeforeValidator(known_name(OBJECTIVES))
    ]
