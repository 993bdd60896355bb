"""Options of the command line that are the settings of a relation, whichever relations there are.

A relation added by a file, or by a package of others, has its settings as options at once.
"""

from __future__ import annotations

from typing import Any

import typer
import yaml
from typer.core import TyperCommand

#: Where a command finds the settings that were given as options, in its context's `meta`.
SETTINGS = "sempairs.relation.settings"


class RelationCommand(TyperCommand):
    """A command that takes, beside options of its own, every setting of a relation as an option.

    `--top-k 5`, `--top-k=5` and, for what is true or false, `--mutual` and `--no-mutual`. Values are read as
    YAML, as `--set` reads them, and checked by the relation itself.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        own |= set(self.get_help_option_names(ctx))
        rest: list[str] = []
        settings: dict[str, Any] = {}
        waiting = list(args)
        while waiting:
            word = waiting.pop(0)
            name, equals, text = word.partition("=")
            if word == "--":
                rest += [word, *waiting]
                break
            if not name.startswith("--") or name in own:
                rest.append(word)
                if name in own and not equals and waiting and self._takes_value(name):
                    rest.append(waiting.pop(0))
                continue
            fields = _fields()
            field = name[2:].replace("-", "_")
            if field.startswith("no_") and field not in fields and fields.get(field[3:]):
                settings[field[3:]] = False
                continue
            if field not in fields:
                known = [f"--{each.replace('_', '-')}" for each in fields] + sorted(own)
                raise _no_such_option(name, known, ctx)
            if equals:
                settings[field] = _value(text)
            elif fields[field] and (not waiting or waiting[0] not in ("true", "false")):
                settings[field] = True
            elif not waiting:
                raise typer.BadParameter(f"Option '{name}' requires an argument.", ctx=ctx)
            else:
                settings[field] = _value(waiting.pop(0))
        ctx.meta[SETTINGS] = settings
        return list(super().parse_args(ctx, rest))

    def _takes_value(self, name: str) -> bool:
        return any(
            name in parameter.opts and not getattr(parameter, "is_flag", False) for parameter in self.params
        )


def _fields() -> dict[str, bool]:
    """The settings of all relations, and whether each is true or false."""
    from sempairs.pairs.config import RELATIONS

    found: dict[str, bool] = {}
    for name in RELATIONS.names():
        for field, about in RELATIONS.get(name).model_fields.items():
            if field not in ("relation", "arm"):
                found[field] = about.annotation in (bool, bool | None)
    return found


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _no_such_option(name: str, known: list[str], ctx: Any) -> Exception:
    from sempairs.errors import nearest

    near = nearest(name, known)
    suggestion = f" Did you mean {near}?" if near else ""
    error: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "UsageError")
    made: Exception = error(f"No such option: {name}.{suggestion}", ctx=ctx)
    return made
