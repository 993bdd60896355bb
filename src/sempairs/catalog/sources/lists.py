"""`csv:PATH`: a list of image files with what is known about them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from sempairs.catalog.columns import Labels, known_columns, on_columns, written_labels
from sempairs.catalog.lookup import Files, is_foreign
from sempairs.catalog.names import escape_name, plain, printable
from sempairs.catalog.sources.base import Problem, existing_path, source_kind
from sempairs.catalog.sources.files import FilesSource, Found
from sempairs.catalog.sources.reading import SPLIT_NAMES, Member
from sempairs.catalog.table import SCHEMA
from sempairs.errors import UserError, unknown
from sempairs.texts import Row, read_rows

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
_NO_UTF_8 = "is no UTF-8; save the list in that encoding"


@source_kind("csv", summary="a list of files, categories, splits, ...", example="csv:photos/list.csv")
class CsvSource(FilesSource):
    """A CSV file, in UTF-8 or what its byte order mark says: a header line, then a line for each image.

    `path` is relative to the list's own folder and may not leave it; a list without it needs `image_id`,
    which then is the path too. All other columns are optional: `image_id` (else made from list and path),
    `category` (a path, `animal/cat`), `concept`, `domain`, `split` (train, val, test, ...), `split_group`,
    `licence`, `attribution`. Usual other names of these are taken too (`file_name`, `label`, `license`, see
    `columns`), and a note says so. Further columns are kept as text. An empty field is null. A bad line is
    reported with its number and left out.

    A path may have the separators of Windows, another Unicode form than the file's name, or start with the
    list's own folder. Cells are divided by commas, tabs or semicolons.
    """

    walks = False

    def __init__(self, rest: str) -> None:
        self.path = existing_path("csv", rest, folder=False)
        self.root = self.path.parent
        self.spec = f"csv:{self.path}"

    def find(self) -> Found:
        members: list[Member] = []
        problems: list[Problem] = []
        ids: set[str] = set()
        rows = _rows(self.path)
        columns = next(rows).columns
        labels, files = Labels(columns.get("category", "category")), Files(self.root)
        for line, row in _with_labels(rows, labels):
            try:
                member = _member(escape_name(self.path.stem), row, files)
                if member.image_id in ids:
                    raise ValueError(f"image_id {member.image_id!r} was given before")
            except _Absent as error:
                problems.append(Problem(escape_name(error.path), str(error)))
            except ValueError as error:
                problems.append(Problem(f"line {line}", str(error)))
            else:
                ids.add(member.image_id)
                members.append(member)
        taken = {own: name for name, own in columns.items()}
        return Found(members, problems, notes=[*on_columns(taken), *labels.notes()])


class _Absent(ValueError):  # noqa: N818 (a row's reason)
    """A path at which there is no file."""

    def __init__(self, path: str, near: str) -> None:
        self.path = path
        reason = "no such file"
        if is_foreign(path):
            reason += "; a path of a Windows machine must be written relative to the list's folder"
        elif near:
            reason += f"; did you mean {escape_name(near)!r}?"
        super().__init__(reason)


class _Line(NamedTuple):
    """The number of a row's first line and its fields by the catalogue's name of the column, None where their
    count is wrong. columns: of the first row alone, the list's own name of each column known."""

    number: int
    fields: dict[str, str] | None
    columns: Mapping[str, str] = {}


def _rows(path: Path) -> Iterator[_Line]:
    """What the columns are, then the rows."""
    field = f"list {path.name}"
    try:
        # A name that is no UTF-8 can still be written in a list: its bytes come back as surrogate escapes.
        rows = read_rows(path, errors="surrogateescape")
        head = next(rows, Row(1, 1, [])).cells
        known = known_columns(head, COLUMNS)
        names = [known.get(name, name) for name in head]
        _check_header(field, names, head)
        yield _Line(1, None, {name: own for own, name in known.items()})
        for line, _, cells in rows:
            fits = len(cells) == len(names)
            yield _Line(line, dict(zip(names, cells, strict=True)) if fits else None)
    except csv.Error as error:
        raise UserError(field, f"must be CSV, and is not {error}") from None
    except UnicodeError as error:
        raise UserError(
            field, f"must be text in UTF-8, or in what its byte order mark says ({error})"
        ) from None


def _with_labels(rows: Iterable[_Line], labels: Labels) -> Iterator[tuple[int, dict[str, str] | None]]:
    """The rows, the category of each as its label says. All are read first: together they tell numbers."""
    lines = list(rows)
    at = [i for i, line in enumerate(lines) if line.fields is not None and "category" in line.fields]
    given = [(lines[i].fields or {})["category"].strip() or None for i in at]
    sound = dict(zip(at, written_labels(given), strict=True))
    for i, line in enumerate(lines):
        if i in sound and line.fields is not None:
            label = sound[i]
            # Hostile text is refused later, as it stands.
            told = label if label is None or printable(label) != label else labels.category(label)
            line.fields["category"] = told or ""
        yield line.number, line.fields


def _check_header(field: str, names: list[str], own: list[str]) -> None:
    if not {"path", "image_id"} & set(names):
        shown = [escape_name(name) for name in names[:20]]
        raise UserError(field, "must start with a line of column names, `path` among them", shown)
    if len(set(names)) != len(names):
        raise UserError(field, "must not name a column twice", own)
    for name in names:
        if name in _MEASURED:
            raise UserError(field, "must leave out columns that are measured from the images", name)
        if not name or not name.isprintable():
            raise UserError(field, "must give every column a printable name", escape_name(name))


def _member(source: str, row: dict[str, str] | None, files: Files) -> Member:
    """Raises: ValueError with the reason a row cannot be used."""
    if row is None:
        raise ValueError("the number of fields differs from the header's")
    fields = {name: plain(value).strip() or None for name, value in row.items() if name != "path"}
    # Not stripped: blanks at the ends of a file name are part of it.
    path = row["path"] if "path" in row else row.get("image_id") or ""
    if not path.strip():
        raise ValueError("path is empty")
    for name, value in fields.items():
        if value is not None and printable(value) != value:
            broken = any(0xDC80 <= ord(character) <= 0xDCFF for character in value)
            raise ValueError(f"{name} " + (_NO_UTF_8 if broken else "holds control characters"))
    given = fields.pop("image_id", None)
    split = fields.get("split")
    if split is not None:
        if split.lower() not in SPLIT_NAMES:
            raise ValueError(str(unknown("split", split, SPLIT_NAMES)))
        fields["split"] = SPLIT_NAMES[split.lower()]
    file = files.find(path)
    if file is None:
        raise _Absent(path, files.nearest(path))
    uri = escape_name(file)
    return Member(uri, given if given and "path" in row else f"{source}/{uri}", fields)
