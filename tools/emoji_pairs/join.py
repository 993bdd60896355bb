"""Which icon draws which concept.

By code points where a set ships them, by upstream file names for fxemoji, else by name. A name join is a
guess: sets drawn before a name moved to another sequence give false pairs, which are left for the audit.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, NamedTuple

from emoji_pairs.concepts import Concept, normal_code

Icons = Mapping[str, Any]
Chars = Mapping[str, str]

_NUMBERED = re.compile(r"-1$")
_TRANSFORMS = ("hFlip", "vFlip", "rotate")


class Joined(NamedTuple):
    """The icon that draws a concept, and how that is known: codepoint, file or name."""

    icon: str
    how: str


def slug(label: str) -> str:
    """A Unicode name as icon sets spell it: "person: beard" -> "person-beard"."""
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"['’]", "", plain).replace("&", "and")).strip("-")


def name_index(concepts: Mapping[str, Concept], naming: list[tuple[Icons, Chars]]) -> dict[str, str]:
    """From an icon name to a sequence (also one out of scope), the surest witness first.

    Unicode's own names come before the names that `naming` sets give a sequence, those before their aliases.
    """
    index: dict[str, str] = {}
    for code, concept in concepts.items():
        index.setdefault(slug(concept.name), code)
    for _, chars in naming:
        for sequence, name in chars.items():
            index.setdefault(name, normal_code(sequence))
    for icons, chars in naming:
        codes = {name: normal_code(sequence) for sequence, name in chars.items()}
        for alias, parent in plain_aliases(icons).items():
            if parent in codes:
                index.setdefault(alias, codes[parent])
    return index


def mirrored(icons: Icons) -> list[str]:
    """Aliases that are a picture of their own: another icon turned or mirrored."""
    aliases = icons.get("aliases", {})
    return sorted(name for name, entry in aliases.items() if any(entry.get(key) for key in _TRANSFORMS))


def plain_aliases(icons: Icons) -> dict[str, str]:
    """Aliases that are another name for the same picture: a mirrored one may mean something else."""
    return {
        alias: entry["parent"]
        for alias, entry in icons.get("aliases", {}).items()
        if not entry.get("hidden") and not any(entry.get(key) for key in _TRANSFORMS)
    }


def by_code(
    icons: Icons, chars: Chars, index: Mapping[str, str], scope: Mapping[str, Concept]
) -> dict[str, Joined]:
    """Concepts by the set's code points; a mirrored icon, which has none, by its name."""
    found = {
        normal_code(sequence): Joined(name, "codepoint")
        for sequence, name in chars.items()
        if visible(icons, name)
    }
    for name in mirrored(icons):
        if name in index and visible(icons, name):
            found.setdefault(index[name], Joined(name, "name"))
    return {code: found[code] for code in scope if code in found}


def by_name(
    icons: Icons,
    index: Mapping[str, str],
    scope: Mapping[str, Concept],
    *,
    flags: frozenset[str] = frozenset(),
) -> dict[str, Joined]:
    """Concepts by icon name; one icon a concept, of numbered variants the first.

    flags: icons that the set files under flags, which may bear a country's name (`turkey`).
    """
    own: dict[str, Joined] = {}
    variants: dict[str, Joined] = {}
    for name in sorted([*icons["icons"], *mirrored(icons)]):
        if name in flags or not visible(icons, name):
            continue
        stem = _NUMBERED.sub("", name)
        if name in index:
            own.setdefault(index[name], Joined(name, "name"))
        elif stem in index:
            variants.setdefault(index[stem], Joined(name, "name"))
    found = variants | own
    return {code: found[code] for code in scope if code in found}


def by_file(icons: Icons, listed: Mapping[str, str], scope: Mapping[str, Concept]) -> dict[str, Joined]:
    """Concepts by a list from icon name to code points (the designer's own file names)."""
    found: dict[str, Joined] = {}
    for name, sequence in sorted(listed.items()):
        if visible(icons, name):
            found.setdefault(normal_code(sequence), Joined(name, "file"))
    return {code: found[code] for code in scope if code in found}


def visible(icons: Icons, name: str) -> bool:
    """Whether the set has the icon and does not hide it (as outdated)."""
    entry = icons["icons"].get(name) or icons.get("aliases", {}).get(name)
    return entry is not None and not entry.get("hidden")
