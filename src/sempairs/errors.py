"""What a user is told when something they gave cannot be used."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_ABSENT = object()
_MANY = 80  # choices that fit in a line


class UserError(ValueError):
    """A user's mistake, said in one line: field, rule, value and remedy.

    >>> str(UserError("pairs.mixed", "must be in [0, 1]", 1.7, "give a fraction"))
    'pairs.mixed must be in [0, 1], got 1.7; give a fraction'

    The command line prints it as `error: …` and exits with status 2.
    """

    #: The exit status of a command that it ends.
    status = 2

    def __init__(self, field: str, rule: str, got: object = _ABSENT, remedy: str = "") -> None:
        self.field = field
        line = f"{field} {rule}" if rule else field
        if got is not _ABSENT:
            line += f", got {_shown(got)}"
        if remedy:
            line += f"; {remedy}"
        # One line, whatever a hostile name or a library's message held.
        super().__init__(" ".join(line.split()))


def nearest(name: str, choices: Iterable[str]) -> str:
    """The choice that looks most like `name`, or "" when none does."""
    found = difflib.get_close_matches(str(name), list(choices), n=1, cutoff=0.5)
    return found[0] if found else ""


def unknown(field: str, name: str, choices: Iterable[str]) -> UserError:
    """The error for a name that is not one of `choices`: lists them and suggests the nearest; of many choices
    near ones only."""
    listed = tuple(choices)
    if len(listed) > _MANY:
        near = difflib.get_close_matches(str(name), listed, n=5, cutoff=0.5)
        remedy = (
            f"did you mean {', '.join(map(repr, near))}?" if near else f"none of {len(listed)} is like it"
        )
        return UserError(field, "is unknown", name, remedy)
    one = nearest(name, listed)
    remedy = f"did you mean {one!r}? " if one else ""
    return UserError(field, "is unknown", name, f"{remedy}choose from: {', '.join(listed)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
