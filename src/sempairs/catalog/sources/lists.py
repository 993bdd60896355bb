"""`csv:PATH`: a list of image files with what is known about them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from sempairs.catalog.names import category_path, escape_name, printable
from sempairs.catalog.sources.base import Problem, existing_path, source_kind
from sempairs.catalog.sources.files import FilesSource, Found
from sempairs.catalog.sources.reading import SPLIT_NAMES, Member
from sempairs.catalog.table import SCHEMA
from sempairs.errors import UserError, unknown

COLUMNS = (
    "path",
    "image_id",
    "category",
    "concept",
    "domain",
    "split",
    "split_group",
    "licence",
    "attribution",
)
_MEASURED = tuple(name for name in SCHEMA.names if name not in COLUMNS)


@source_kind("csv", summary="a list of files, categories, splits, ...", example="csv:photos/list.csv")
class CsvSource(FilesSource):
    """A UTF-8 CSV file with a header line; every further line names one image.

    `path` is relative to the list's own folder and may not leave it; a list without it needs `image_id`,
    which then is the path too. All other columns are optional: `image_id` (else made from list and path),
    `category` (a path, `animal/cat`), `concept`, `domain`, `split` (train, val, test, ...), `split_group`,
    `licence`, `attribution`. Further columns are kept as text. An empty field is null. A bad line is reported
    with its number and left out.
    """

    walks = False

    def __init__(self, rest: str) -> None:
        self.path = existing_path("csv", rest, folder=False)
        self.root = self.path.parent
        self.spec = f"csv:{self.path}"

    def find(self) -> Found:
        return Found(*self._members())

    def _members(self) -> tuple[list[Member], list[Problem]]:
        members: list[Member] = []
        problems: list[Problem] = []
        ids: set[str] = set()
        for line, row in _rows(self.path):
            try:
                member = _member(escape_name(self.path.stem), row)
                if member.image_id in ids:
                    raise ValueError(f"image_id {member.image_id!r} was given before")
            except ValueError as error:
                problems.append(Problem(f"line {line}", str(error)))
            else:
                ids.add(member.image_id)
                members.append(member)
        return members, problems


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str] | None]]:
    """The number of a row's first line, and its fields by column; None where their count is wrong."""
    # A name that is no UTF-8 can still be written in a list: its bytes come back as surrogate escapes.
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
        reader = csv.reader(handle, strict=True)
        field = f"list {path.name}"
        try:
            names = [name.strip() for name in next(reader, [])]
            _check_header(field, names)
            line = reader.line_num + 1
            for values in reader:
                if values:  # not a blank line
                    yield line, dict(zip(names, values, strict=True)) if len(values) == len(names) else None
                line = reader.line_num + 1
        except csv.Error as error:
            raise UserError(field, f"must be CSV, and is not at line {reader.line_num} ({error})") from None


def _check_header(field: str, names: list[str]) -> None:
    if not {"path", "image_id"} & set(names):
        shown = [escape_name(name) for name in names[:20]]
        raise UserError(field, "must start with a line of column names, `path` among them", shown)
    if len(set(names)) != len(names):
        raise UserError(field, "must not name a column twice", names)
    for name in names:
        if name in _MEASURED:
            raise UserError(field, "must leave out columns that are measured from the images", name)
        if not name or not name.isprintable():
            raise UserError(field, "must give every column a printable name", escape_name(name))


def _member(source: str, row: dict[str, str] | None) -> Member:
    """Raises: ValueError with the reason a row cannot be used."""
    if row is None:
        raise ValueError("the number of fields differs from the header's")
    fields = {name: value.strip() or None for name, value in row.items() if name != "path"}
    # Not stripped: blanks at the ends of a file name are part of it.
    path = row["path"] if "path" in row else fields.get("image_id") or ""
    if not path.strip():
        raise ValueError("path is empty")
    for name, value in fields.items():
        if value is not None and printable(value) != value:
            raise ValueError(f"{name} holds control characters or is no UTF-8")
    given = fields.pop("image_id", None)
    uri = escape_name(path)
    if fields.get("category"):
        fields["category"] = category_path(fields["category"] or "")
    split = fields.get("split")
    if split is not None:
        if split.lower() not in SPLIT_NAMES:
            raise ValueError(str(unknown("split", split, SPLIT_NAMES)))
        fields["split"] = SPLIT_NAMES[split.lower()]
    return Member(uri, given if given and "path" in row else f"{source}/{uri}", fields)
