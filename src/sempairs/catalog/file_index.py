"""Files under a folder, found by the names that lists and annotations give them.

Such names were written by other tools, often on another system: with its separators, in another case or
Unicode form, with or without an ending. What is there as it is written goes first; then what reads the same.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from sempairs.catalog.images import SUFFIXES

__all__ = ["FileIndex", "plain_parts"]


class FileIndex:
    """The files under `folder` with one of `suffixes` (in any case), by name and by name without ending.

    Names are relative to the folder, with `/` between their parts. Links to folders are not followed, hidden
    files and folders are passed over.
    """

    def __init__(self, folder: Path, suffixes: Collection[str] = SUFFIXES) -> None:
        self.names: set[str] = set()
        self._suffixes = suffixes
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for place, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            inside = os.path.relpath(place, folder)
            for file in files:
                if not file.startswith(".") and os.path.splitext(file)[1].lower() in suffixes:
                    self._add(file if inside == "." else f"{inside}/{file}".replace(os.sep, "/"))

    def _add(self, name: str) -> None:
        self.names.add(name)
        self._by_name[_folded(name)].append(name)
        self._by_stem[_folded(os.path.splitext(name)[0])].append(name)

    def named(self, written: str) -> str | None:
        """The file that `written` names; of a path from elsewhere the longest end that is found here, so
        `C:\\data\\b\\1.JPG` is `b/1.jpg`, else `1.jpg`. None where none is, or several fit equally well.
        """
        for name in (written, written.replace("\\", "/")):
            parts = [part for part in name.split("/") if part not in ("", ".")]
            for start in range(len(parts) if ".." not in parts else 0):
                found = self._best(self._by_name.get(_folded("/".join(parts[start:])), ()), parts[start:])
                if found is not None:
                    return found
        return None

    def stems(self, written: str) -> list[str]:
        """The files called `written`, of any ending: those spelled just so, else those that read the same."""
        name = written.replace("\\", "/")
        found = self._by_stem.get(_folded(name), [])
        exact = [one for one in found if os.path.splitext(one)[0] == name]
        return sorted(exact or found)

    def without_suffix(self, written: str) -> str:
        """`written` without an ending that files of this index have."""
        stem, suffix = os.path.splitext(written)
        return stem if suffix.lower() in self._suffixes else written

    @staticmethod
    def _best(found: Collection[str], parts: list[str]) -> str | None:
        name = "/".join(parts)
        if name in found:
            return name
        return next(iter(found)) if len(found) == 1 else None


def plain_parts(name: str) -> bool:
    """Whether a relative name with `/` between its parts can neither leave a folder nor hide in it."""
    parts = name.split("/")
    return (
        0 < len(name) <= 400
        and name == name.strip()
        and not any(c in name for c in "\\\0\n\r\t")
        and all(part and not part.startswith(".") and len(part) <= 200 for part in parts)
    )


def _folded(name: str) -> str:
    """Equal for names that look the same, in whatever Unicode form and case."""
    return unicodedata.normalize("NFC", name).casefold()
