"""The columns of lists and tables that others made: under which names they hold what a catalogue knows, and
what labels of all types mean."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from sempairs.catalog.names import category_path, class_name, escape_name, plain

# Usual names of the field, the most telling first.
_CALLED: dict[str, tuple[str, ...]] = {
    "path": (
        "file_name", "filename", "file_path", "filepath", "image_path", "img_path", "image_file",
        "image_name", "file", "image", "img",
    ),
    "category": ("class_name", "label_name", "class", "label", "labels", "class_label", "target"),
    "licence": ("license",),
}  # fmt: skip
# These hold a text about the image as often as its path.
_DOUBTFUL = ("image", "img", "file")
_WHOLE = re.compile(r"-?\d+(?:\.0)?")
_NO_LABEL = ("nan", "NaN", "NAN", "<NA>")


def known_columns(names: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """Of the columns `names`, those that hold one of `wanted`: catalogue's name by the column's own.

    A column of the very name comes first, then one that differs in case or in how words are joined
    (`Image ID`), then one under a usual name (`license`, `label`, `file_name`).
    """
    found = {name: name for name in wanted if name in names}
    by_form: dict[str, str] = {}
    for name in names:
        if name not in found:
            by_form.setdefault(_form(name), name)
    has_id = "image_id" in names or "image_id" in by_form
    for want in wanted:
        if want in found.values():
            continue
        for called in (want, *_CALLED.get(want, ())):
            doubtful = called in _DOUBTFUL and has_id
            if called in by_form and not doubtful:
                found[by_form.pop(called)] = want
                break
    return found


def on_columns(found: Mapping[str, str]) -> list[str]:
    """A note on the columns that are called otherwise in a catalogue."""
    renamed = [f"{escape_name(own)} for {name}" for own, name in found.items() if own != name]
    return [f"columns taken: {', '.join(renamed)}"] if renamed else []


def _form(name: str) -> str:
    return re.sub(r"[\s\-.]+", "_", name.strip()).casefold()


class Labels:
    """Labels as they stand in a column, one after another, to categories; what could not be taken is counted.

    names: of the classes that whole numbers stand for, None where they name themselves.
    """

    def __init__(self, column: str, names: Sequence[str] | None = None) -> None:
        self._column, self._names = column, names
        self._wrong: Counter[str] = Counter()

    def category(self, value: Any) -> str | None:
        """The category of one value; None for null, NaN, `-1` of named classes, and what is no one label."""
        if isinstance(value, Mapping):
            return self._none("structures instead of a label")
        if isinstance(value, str) and (listed := _written_list(value.strip())) is not None:
            value = listed
        if isinstance(value, list):
            if len(value) != 1:
                return self._none("several labels of an image") if value else None
            return self.category(value[0])
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError:
                return self._none("bytes that are no text")
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
            value = int(value)
        return self._named(value) if self._names is not None else category_path(str(value))

    def notes(self) -> list[str]:
        """What was wrong, and how often."""
        where = f"column {escape_name(self._column)}"
        return [
            f"{where}: {count:,} images have {what}, and no category" for what, count in self._wrong.items()
        ]

    def _named(self, value: Any) -> str | None:
        names = self._names or ()
        text = str(value).strip()
        if isinstance(value, str) and value in names:
            return category_path(class_name(value))
        if isinstance(value, bool) or not re.fullmatch(r"-?\d+", text):
            return self._none("what is neither a number nor a name of the classes")
        if 0 <= int(text) < len(names):
            return category_path(class_name(names[int(text)]))
        # -1 is Hugging Face's "no label".
        return None if int(text) == -1 else self._none(f"a number that none of the {len(names)} classes has")

    def _none(self, what: str) -> str | None:
        self._wrong[what] += 1
        return None


def as_text(value: Any) -> str | None:
    """A value of a column that holds text in a catalogue; None for null, NaN and nothing but blanks.

    Raises: ValueError for bytes that are no text, for structures, and for lists of several values.
    """
    if isinstance(value, list) and len(value) <= 1:
        value = value[0] if value else None
    if isinstance(value, list | Mapping):
        raise ValueError("holds lists or structures")
    if isinstance(value, bytes):
        value = value.decode()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        value = int(value)
    return plain(str(value)).strip() or None


def written_labels(labels: Sequence[str | None]) -> list[str | None]:
    """Labels as a table of texts has them. Where all are whole numbers, they may have gone through a column
    of floats: 1.0 is 1 then, and NaN is none."""
    if not all(label is None or label in _NO_LABEL or _WHOLE.fullmatch(label) for label in labels):
        return list(labels)
    return [None if label is None or label in _NO_LABEL else label.removesuffix(".0") for label in labels]


def _written_list(text: str) -> list[Any] | None:
    """The labels in a text such as `[0, 1]` or `['cat']`; None for one that is no list."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text[1:-1].split() if len(text.split()) > 1 else None
    return found if isinstance(found, list) else None
