"""File names as printable text.

A file name on Linux is any bytes: it may hold newlines, terminal commands, or no valid UTF-8. In a catalogue,
a report and on a terminal it is written with those characters escaped; the escape is reversible and one to
one, so two files never share an id.
"""

from __future__ import annotations

import os
import re
import unicodedata

_REVERSE = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4})")
# Zero-width space, word joiner, byte order mark. Joiners that change how letters look are not among them.
_WITHOUT_WIDTH = frozenset("\u200b\u2060\ufeff")
# Direction overrides can make a name read as another one.
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def escape_name(name: str) -> str:
    r"""`name` (as `os.fsdecode` gives it) with a backslash as `\\`, control and direction characters as
    `\uXXXX`, and bytes that are no UTF-8 as `\xNN`."""
    return printable(name.replace("\\", r"\\"))


def printable(text: str) -> str:
    """`text` fit for a terminal and a report: as `escape_name` has it, but backslashes as they are."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def unescape_name(text: str) -> str:
    """The name that `escape_name` was given."""
    return _REVERSE.sub(_unescaped, text) if "\\" in text else text


def category_path(*segments: str) -> str | None:
    """A path in the category tree from folder or class names; None where no segment is left.

    A slash inside a segment divides it; empty segments, `.` and surrounding blanks are dropped. What looks
    the same is the same: see `plain`.
    """
    parts = [part.strip() for segment in segments for part in plain(segment).split("/")]
    kept = [escape_name(part) for part in parts if part not in ("", ".")]
    return "/".join(kept) or None


def plain(text: str) -> str:
    """The one form of all texts that look like this one: Unicode's NFC (a folder copied from a Mac has NFD),
    every kind of blank as a space, and no marks without width."""
    if text.isascii():
        return text
    whole = unicodedata.normalize("NFC", text)
    return "".join(
        " " if unicodedata.category(character) == "Zs" else character
        for character in whole
        if character not in _WITHOUT_WIDTH
    )


def class_name(name: str) -> str:
    """A class of a flat list as one segment of a category path: `T-shirt/top` names one class, not two."""
    return "-".join(part.strip() for part in name.split("/") if part.strip())


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that os.fsdecode could not read
        return f"\\x{code - 0xDC00:02x}"
    unprintable = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    return f"\\u{code:04x}" if unprintable or character in _BIDIRECTIONAL else character


def _unescaped(match: re.Match[str]) -> str:
    body = match.group(1)
    if body == "\\":
        return "\\"
    code = int(body[1:], 16)
    return os.fsdecode(bytes([code])) if body[0] == "x" else chr(code)
