"""Code of others: methods, relations, sources, tasks and protocols from outside the package.

A plugin is a Python module, or a file, that registers things when it is imported. It is found in three ways:
an installed package names it as an entry point of the group `sempairs.plugins`; a recipe names it in
`plugins:`; the environment variable SEMPAIRS_PLUGINS names it (several with commas between them). A recipe's
plugins are part of it, so runs and cells of a study load them too.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from sempairs.errors import UserError

GROUP = "sempairs.plugins"
VARIABLE = "SEMPAIRS_PLUGINS"

_loaded: set[str] = set()
_installed = False


def load(names: Iterable[str], where: str = "plugins") -> None:
    """Imports plugins: names of modules, or paths of Python files. Each is imported once a process.

    Raises: UserError for a plugin that is not there, or fails while it is imported.
    """
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise UserError(where, "must be names of modules or paths of Python files", name)
        key = str(Path(name).resolve()) if name.endswith(".py") else name
        if key in _loaded:
            continue
        _loaded.add(key)
        try:
            _import(name)
        except UserError:
            _loaded.discard(key)
            raise
        except Exception as error:
            _loaded.discard(key)
            what = f"fails while it is imported ({type(error).__name__}: {error})"
            raise UserError(f"{where} {name}", what, remedy="mend it, or leave it out") from error


def load_installed() -> None:
    """Imports the plugins of installed packages and of SEMPAIRS_PLUGINS, once a process."""
    global _installed
    if _installed:
        return
    _installed = True
    load(filter(None, (name.strip() for name in os.environ.get(VARIABLE, "").split(","))), VARIABLE)
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            what = f"of an installed package fails ({type(error).__name__}: {error})"
            raise UserError(f"plugin {point.name}", what, remedy="mend or uninstall it") from error


def _import(name: str) -> None:
    if not name.endswith(".py"):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            remedy = "install it, or give the path of its file"
            raise UserError("plugins", "must be modules that can be imported", name, remedy) from None
        return
    path = Path(name)
    if not path.is_file():
        raise UserError("plugins", "must be existing files", name)
    module_name = f"sempairs_plugin_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(module_name, None)
        raise
