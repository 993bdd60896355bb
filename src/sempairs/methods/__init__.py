"""Self-supervised methods, one a file; see `base` for what a method is and how one is added."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

from pydantic import BeforeValidator, Field

from sempairs.errors import nearest
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

__all__ = [
    "METHODS",
    "AnyMethodConfig",
    "Method",
    "MethodConfig",
    "ParamGroup",
    "ParamRule",
    "Preset",
    "StepOutput",
    "build_method",
]

# Importing a file registers its method, so a new method is a new file and nothing else.
for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")


def _known(value: Any) -> Any:
    """Refuses a name that is no method's before the union does, for an error that suggests the nearest."""
    name = value.get("name") if isinstance(value, dict) else None
    if name is not None and name not in METHODS.names():
        near = nearest(str(name), METHODS.names())
        suggestion = f"did you mean {near!r}? " if near else ""
        raise ValueError(f"names no method; {suggestion}choose from: {', '.join(METHODS.names())}")
    return value


if TYPE_CHECKING:
    AnyMethodConfig: TypeAlias = MethodConfig
else:
    _union = Union[tuple(METHODS.get(name).Config for name in METHODS.names())]  # noqa: UP007
    AnyMethodConfig = Annotated[_union, Field(discriminator="name"), BeforeValidator(_known)]
