"""The protocols, one file each; see `base` for what one is and how one is added."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from sempairs.evaluation.protocols.base import PROTOCOLS, Context, Protocol, register

__all__ = ["PROTOCOLS", "Context", "Protocol", "register"]

# Importing a file registers its protocols, so a new one is a new file and nothing else.
for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")
