"""Named choices of one kind, such as methods or relations, and how others add to them.

A class states its name once and is registered by one decorator, `@METHODS.register`. Files of the registry's
own package are found by themselves. Packages of others are found by the entry point group `sempairs.plugins`,
by `plugins:` in a recipe, and by the environment variable SEMPAIRS_PLUGINS (`plugins.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from sempairs import plugins
from sempairs.errors import unknown

T = TypeVar("T")
#: The type of error for a section that names no entry.
UNKNOWN = "unknown_entry"


class Registry(Generic[T]):
    """A table from names to objects of one kind.

    kind: what an entry is called in messages. package: whose modules register entries when they are imported;
    they are imported at the first look-up. key: the field that states an entry's name.
    """

    def __init__(self, kind: str, package: str = "", *, key: str = "name") -> None:
        self.kind = kind
        self.key = key
        self._package = package
        self._entries: dict[str, T] = {}

    def register(self, entry: T) -> T:
        """Register a class, or an object, under the name it states, as a decorator.

        Raises: ValueError if it states none, or the name is taken.
        """
        name = self.name_of(entry)
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered already")
        self._entries[name] = entry
        return entry

    def name_of(self, entry: Any) -> str:
        """Find the name an entry states: the default of that field of a config, its own or that of its
        `Config`; else its attribute. Raises: ValueError."""
        config: Any = entry if _is_config(entry) else getattr(entry, "Config", None)
        if _is_config(config) and self.key in config.model_fields:
            name = config.model_fields[self.key].default
        else:
            name = getattr(entry, self.key, None)
        if not isinstance(name, str) or not name:
            raise ValueError(f"{entry!r} must state its {self.key} to be registered as a {self.kind}")
        return name

    def get(self, name: str) -> T:
        """Look up the entry called `name`.

        Raises: UserError that lists the choices and suggests the nearest.
        """
        self._discover()
        try:
            return self._entries[name]
        except KeyError:
            raise unknown(self.kind, name, self.names()) from None

    def names(self) -> tuple[str, ...]:
        """List all names, sorted."""
        self._discover()
        return tuple(sorted(self._entries))

    def _discover(self) -> None:
        """Imports the package's own files, and the plugins of others, once."""
        package, self._package = self._package, ""
        if package:
            import_package(package)
        plugins.load_installed()


def import_package(name: str) -> None:
    """Import every module that lies in a package, in the order of their names."""
    package = import_module(name)
    for module in sorted(module.name for module in iter_modules(package.__path__)):
        import_module(f"{name}.{module}")


class Section:
    """The type of a recipe's section whose key names an entry of `registry`, and whose other keys are its
    settings: use it as `Annotated[MethodConfig, Section(METHODS)]`.

    Entries that are registered later, by a plugin, are known too. A text alone stands for a section with the
    name and nothing else where `short` is true.
    """

    def __init__(self, registry: Registry[Any], *, short: bool = False) -> None:
        self.registry = registry
        self.short = short

    def config_of(self, section: Any) -> type[BaseModel] | None:
        """Find the config that a section asks for, where its name is known."""
        if isinstance(section, str) and self.short:
            section = {self.registry.key: section}
        name = section.get(self.registry.key) if isinstance(section, Mapping) else None
        if name not in self.registry.names():
            return None
        entry: Any = self.registry.get(str(name))
        config: type[BaseModel] = entry if _is_config(entry) else entry.Config
        return config

    def read(self, section: Any) -> Any:
        """Read the section as a config. Raises: ValueError, or pydantic's ValidationError of the config."""
        if isinstance(section, BaseModel):
            return section
        if isinstance(section, str) and self.short:
            section = {self.registry.key: section}
        if not isinstance(section, Mapping):
            raise ValueError("must be a section of keys")
        if self.registry.key not in section:
            raise ValueError(f"needs the key {self.registry.key}: {', '.join(self.registry.names())}")
        config = self.config_of(section)
        if config is None:
            key, names = self.registry.key, self.registry.names()
            error = unknown(key, section[key], names)
            raise PydanticCustomError(UNKNOWN, "{said}", {"said": str(error), "key": key, "names": names})
        return config.model_validate(dict(section))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def dump(config: BaseModel, info: Any) -> dict[str, Any]:
            return config.model_dump(mode=info.mode, exclude_defaults=bool(info.exclude_defaults))

        return core_schema.no_info_plain_validator_function(
            self.read, serialization=core_schema.plain_serializer_function_ser_schema(dump, info_arg=True)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "object", "required": [self.registry.key]}


def _is_config(entry: Any) -> bool:
    return isinstance(entry, type) and issubclass(entry, BaseModel)
