"""Images by the names that people write: with the separators of another system, in another Unicode form, from
the folder above, or whole from the root of the file system."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sempairs.catalog.names import plain, unescape_name
from sempairs.errors import nearest


def ways_to_read(name: str, roots: Sequence[Path] = ()) -> list[str]:
    """What a written path may mean, relative to one of `roots`, the most literal first; in plain form."""
    text = plain(name).strip().replace("\\", "/")
    while text.startswith("./"):
        text = text[2:]
    found = [text]
    for root in roots:
        parts = [plain(part) for part in root.parts if part != "/"]
        heads = [f"/{'/'.join(parts)}/", *("/".join(parts[at:]) + "/" for at in range(len(parts)))]
        found += [text.removeprefix(head) for head in heads if text.startswith(head)]
    return found


def is_foreign(name: str) -> bool:
    """Whether a path is that of a Windows machine from the root of a drive."""
    return len(name) > 2 and name[0].isalpha() and name[1] == ":" and name[2] in "\\/"


class Files:
    """The files under `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, dict[str, str | None]] = {}

    def find(self, name: str) -> str | None:
        """The name of the file as the system has it, relative to the root; None where there is none. A name
        that leads out of the root stays as it is: it is refused on reading."""
        if os.path.lexists(os.path.join(self._root, name)):
            if not os.path.isabs(name):
                return name
            place = os.path.realpath(name)
            inside = place.startswith(f"{self._root}{os.sep}")
            return os.path.relpath(place, self._root) if inside else name
        for way in ways_to_read(name, [self._root]):
            if (found := self._walk(way.split("/"), exact=True)) is not None:
                return found
        return None

    def nearest(self, name: str) -> str:
        """The file that is most likely meant, or ""."""
        for way in ways_to_read(name, [self._root]):
            if found := self._walk(way.split("/"), exact=False):
                return found
        return ""

    def _walk(self, parts: Sequence[str], *, exact: bool) -> str | None:
        place = ""
        for part in parts:
            inside = self._inside(place)
            entry = inside.get(part)
            if entry is None and not exact:
                by_case = {plain_name.casefold(): own for plain_name, own in inside.items()}
                entry = by_case.get(part.casefold()) or inside.get(nearest(part, list(inside)[:_COMPARED]))
            if entry is None:
                return None
            place = os.path.join(place, entry)
        return place

    def _inside(self, folder: str) -> dict[str, str | None]:
        """The entries of a folder by their plain form; None for a form that two of them have."""
        if folder not in self._folders:
            found: dict[str, str | None] = {}
            try:
                for name in os.listdir(os.path.join(self._root, folder)):
                    found[plain(name)] = None if plain(name) in found else name
            except OSError:
                pass
            self._folders[folder] = found
        return self._folders[folder]


# Names that a misspelt one is compared with.
_COMPARED = 2000


class Images:
    """Images of a catalogue by what names them: their ids, or their paths in the source. Images: 0 to n - 1.

    ids, uris: (n,) each. sources: the specs they came from, whose folders a path may start with.
    """

    def __init__(self, ids: Sequence[str], uris: Sequence[str], sources: Iterable[str]) -> None:
        self._ids = ids
        self._roots = [Path(spec.rpartition(":")[2]) for spec in sources]
        self._roots += [root.parent for root in self._roots if root.suffix]
        self._by_form: dict[str, int] = {}
        for names in (ids, uris):
            forms: dict[str, int] = {}
            for at, name in enumerate(names):
                form = plain(unescape_name(name)).replace("\\", "/")
                forms[form] = at if forms.get(form, at) == at else -1
            self._by_form = forms | self._by_form

    def find(self, name: str) -> int:
        """The image that `name` can only mean, -1 where there is none or more than one."""
        ways = ways_to_read(name, self._roots)
        return next((at for way in ways if (at := self._by_form.get(way, -1)) >= 0), -1)

    def nearest(self, name: str) -> str:
        """The id of the image most likely meant, or ""."""
        if not self._ids:
            return ""
        way = ways_to_read(name, self._roots)[-1]
        last = way.rpartition("/")[2].casefold()
        likely = [form for form in self._by_form if form.rpartition("/")[2].casefold() == last]
        near = nearest(way, likely[:_COMPARED]) or next(iter(likely), "")
        near = near or nearest(way, list(self._by_form)[:_COMPARED])
        return self._ids[self._by_form[near]] if near and self._by_form[near] >= 0 else ""
