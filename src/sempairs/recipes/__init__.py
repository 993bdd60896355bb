"""The recipes that come along, known by name: `quickstart` is the file quickstart.yaml of this folder.

Each begins with a comment: what it asks, the command, the time it takes, what is expected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sempairs.errors import unknown

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class RecipeFile:
    """A recipe that comes along. verb: the command it is for; title: the first sentence of its comment."""

    name: str
    path: Path
    verb: str
    title: str


def recipe_names() -> tuple[str, ...]:
    """The names of all recipes that come along, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def recipe_path(name: str | Path) -> Path:
    """The file of a recipe: a path as it is, or the one that comes along under that name.

    A file or folder of that very name goes first. A name without an ending that is neither is an error that
    lists the names. Raises: UserError.
    """
    path = Path(name)
    if path.exists() or path.suffix or len(path.parts) != 1:
        return path
    if str(name) not in recipe_names():
        raise unknown("recipe", str(name), recipe_names())
    return FOLDER / f"{name}.yaml"


def recipe_files() -> tuple[RecipeFile, ...]:
    """All recipes that come along, with what their comments say of them."""
    found = []
    for name in recipe_names():
        path = FOLDER / f"{name}.yaml"
        comment = []
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                break
            comment.append(line.lstrip("# ").rstrip())
        paragraph = " ".join(comment[: comment.index("")] if "" in comment else comment)
        title = re.split(r"(?<=[.?]) ", paragraph, maxsplit=1)[0].rstrip(".")
        command = next(line for line in comment if line.lower().startswith("command:"))
        words = command[command.index("sempairs ") :].split()
        verb = " ".join(words[1:3] if words[1] in ("study", "pairs") else words[1:2])
        found.append(RecipeFile(name, path, verb, title))
    return tuple(found)
