"""Named choices: sources, methods, tasks. One registration each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sempairs.errors import nearest, unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """A table from names to objects of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files its argument under `name`.

        Raises: ValueError if the name is taken.
        """

        def file(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered already")
            self._entries[name] = entry
            return entry

        return file

    def get(self, name: str) -> T:
        """The entry called `name`.

        Raises: UserError that lists the choices and suggests the nearest.
        """
        try:
            return self._entries[name]
        except KeyError:
            raise unknown(self.kind, name, self.names()) from None

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self._entries))


def known_name(registry: Registry[Any]) -> Callable[[Any], Any]:
    """A validator for a section whose key `name` chooses from `registry`.

    It refuses a name that is not there before a union of sections does, for an error that suggests the
    nearest. Raises: ValueError.
    """

    def check(section: Any) -> Any:
        name = section.get("name") if isinstance(section, dict) else None
        if name is not None and name not in registry.names():
            near = nearest(str(name), registry.names())
            suggestion = f"did you mean {near!r}? " if near else ""
            choices = ", ".join(registry.names())
            raise ValueError(f"names no {registry.kind}; {suggestion}choose from: {choices}")
        return section

    return check
