"""What the levels of nested folders mean, and lists that say which image is in which split.

DomainNet, PACS and Office-Home lie in `domain/class/` folders, of which `folder:` makes categories
`clipart/dog`; `levels = (domain, category)` takes them apart.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sempairs.catalog.lookup import Images
from sempairs.catalog.names import escape_name, printable
from sempairs.catalog.sources.reading import SPLIT_NAMES
from sempairs.catalog.table import SCHEMA, SPLITS, Catalog
from sempairs.errors import UserError, unknown
from sempairs.progress import tell
from sempairs.texts import read_text

LEVELS = ("category", "concept", "domain", "split", "-")
_SHOWN = 5  # of the lines that name nothing
_COLUMN = re.compile(r"[a-z][a-z0-9_]*")


def check_levels(levels: Sequence[str]) -> None:
    """Raises: ValueError if a level has no meaning, or two have the same one."""
    for level in levels:
        if level not in LEVELS and (level in SCHEMA.names or not _COLUMN.fullmatch(level)):
            raise ValueError(f"must hold {', '.join(LEVELS)} or names of further columns, and has {level!r}")
        if level not in ("category", "-") and levels.count(level) > 1:
            raise ValueError(f"must not hold {level!r} twice")
    if not levels:
        raise ValueError("must not be empty")


def apply_levels(catalog: Catalog, levels: Sequence[str]) -> Catalog:
    """The catalogue with its categories taken apart: their first segment means `levels[0]`, and so on.

    A level is `category` (may occur more than once: a path), `concept`, `domain`, `split`, `-` (dropped), or
    any other name, which becomes a column. Deeper segments belong to the category. What an image's path is
    too short for is null. A concept is told apart by its category too: `shoe/17` and `hat/17` are two.
    (`cross_domain` pairs by category where there are no concepts.)

    Raises: UserError if no path is as deep as the levels, or a split has an unknown name.
    """
    category = catalog.table.column("category").combine_chunks().dictionary_encode()
    paths = [path.split("/") for path in category.dictionary.to_pylist()]
    deepest = max(map(len, paths), default=0)
    if deepest < len(levels):
        rule = f"names {len(levels)} levels, and the images' folders are at most {deepest} deep"
        raise UserError("data.levels", rule, list(levels))
    taken = [_taken_apart(path, levels) for path in paths]
    _tell_short(category, paths, len(levels))
    names = [*dict.fromkeys(["category", *(level for level in levels if level != "-")])]
    table = catalog.table
    for name in names:
        values = pa.array([found.get(name) for found in taken], type=pa.string()).take(category.indices)
        place = table.column_names.index(name) if name in table.column_names else None
        add = table.append_column if place is None else functools.partial(table.set_column, place)
        table = add(name, values)
    return Catalog.from_table(table)


def _tell_short(category: pa.DictionaryArray, paths: Sequence[Sequence[str]], depth: int) -> None:
    """Tells how many images lie less deep than the levels, and so have nulls in some of them."""
    short = np.array([len(path) < depth for path in paths] + [True])
    where = pc.fill_null(category.indices, len(paths)).to_numpy()
    count = int(short[where].sum())
    if count:
        names = sorted("/".join(path) for path in paths if len(path) < depth)[:_SHOWN]
        inside = f", some of them in {', '.join(names)}" if names else ""
        tell(f"{count:,} images lie less deep than the {depth} folders that data.levels names{inside}")


def _taken_apart(path: Sequence[str], levels: Sequence[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    category = []
    for level, part in zip((*levels, *["category"] * len(path)), path, strict=False):
        if level == "category":
            category.append(part)
        elif level == "split":
            if part.lower() not in SPLIT_NAMES:
                raise unknown("data.levels: the split", part, SPLIT_NAMES)
            found[level] = SPLIT_NAMES[part.lower()]
        else:
            found[level] = part
    found["category"] = "/".join(category) or None
    if "concept" in found:
        found["concept"] = "/".join([*category, found["concept"] or ""])
    return found


def apply_split_lists(catalog: Catalog, lists: Mapping[str, str]) -> Catalog:
    """The catalogue with the splits that lists of files say; images in none have no split.

    lists: for each split a path or pattern (`*_train.txt`), relative to the source's folder. A line is a
    file's path in that folder (or its image's id) and maybe, after a blank, tab or comma, its label (as in
    DomainNet and PACS), which is not read. Lines that name no image, and images that no list names, are
    counted and told.
    Raises: UserError for a list that is absent, cannot be read or names no image of the catalogue, and for an
    image in two splits.
    """
    root = _root(catalog)
    found = _Listed(catalog)
    split: list[str | None] = [None] * len(catalog)
    for name, pattern in lists.items():
        files = sorted(root.glob(pattern)) if not Path(pattern).is_absolute() else [Path(pattern)]
        if not files:
            raise UserError(f"data.split_lists.{name}", f"must name a list in {root}", pattern)
        for file in files:
            lines = _lines(file)
            rows = found.rows([line for _, line in lines])
            absent = [line for (_, line), row in zip(lines, rows, strict=True) if row < 0]
            if len(absent) == len(lines):
                near = found.nearest(absent[0]) if absent else ""
                remedy = f"write paths as in {near}, not {printable(absent[0])}" if near else ""
                raise UserError(
                    printable(str(file)), "must list images of the source, and names none", remedy=remedy
                )
            if absent:
                first = ", ".join(map(printable, absent[:_SHOWN])) + (", …" if len(absent) > _SHOWN else "")
                tell(f"{file}: {len(absent):,} of {len(lines):,} lines name no image of the source: {first}")
            for (line, text), row in zip(lines, rows, strict=True):
                if row >= 0 and split[row] not in (None, name):
                    raise UserError(f"{file} line {line}", f"names an image of the split {split[row]}", text)
                if row >= 0:
                    split[row] = name
    if without := split.count(None):
        rule = "are in no list of data.split_lists and have no split"
        tell(f"{printable(str(root))}: {without:,} of {len(split):,} images {rule}")
    return catalog.with_column("split", split)


class _Listed:
    """The images that lines of lists name."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def rows(self, lines: Sequence[str]) -> list[int]:
        """The row of each line's image, -1 where there is none."""
        likely = pa.array([escape_name(_without_number(line)) for line in lines], type=pa.string())
        place = pc.index_in(likely, value_set=self._catalog.array("uri"))
        found: list[int] = pc.fill_null(place, -1).to_pylist()
        for at, row in enumerate(found):
            if row < 0:
                rows = (self._images.find(text) for text in _readings(lines[at]))
                found[at] = next((row for row in rows if row >= 0), -1)
        return found

    def nearest(self, line: str) -> str:
        """The path of the image most likely meant, or ""."""
        return self._images.nearest(_without_number(line))

    @functools.cached_property
    def _images(self) -> Images:
        ids, uris = (self._catalog.array(name).to_pylist() for name in ("image_id", "uri"))
        return Images(ids, uris, self._catalog.array("source").unique().to_pylist())


def _without_number(line: str) -> str:
    path, _, label = line.strip().rpartition(" ")
    return path if path and label.isdecimal() else line.strip()


def _readings(line: str) -> list[str]:
    """What may be the path in a line: all of it, or what stands before a label or other cells."""
    text = line.strip()
    cells = [text.rpartition(mark)[0] for mark in " \t,;"] + [text.partition(mark)[0] for mark in "\t,;"]
    return [line, text, *(cell.strip().strip('"') for cell in cells if cell.strip())]


def _root(catalog: Catalog) -> Path:
    sources = catalog.table.column("source").unique().to_pylist()
    root = Path(sources[0].partition(":")[2]) if len(sources) == 1 else Path()
    if len(sources) != 1 or not root.is_dir():
        raise UserError("data.split_lists", "needs images of one folder", sources[:3], "use folder:PATH")
    return root


def _lines(file: Path) -> list[tuple[int, str]]:
    """Number and text of each line of a list; blank ones and comments are left out."""
    try:
        text = read_text(file, errors="surrogateescape")
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(printable(str(file)), f"cannot be read ({why})") from None
    lines = enumerate(text.split("\n"), start=1)
    return [(number, line) for number, line in lines if line.strip() and not line.startswith("#")]


def check_split_lists(lists: Mapping[str, str]) -> None:
    """Raises: ValueError for a name that is no split."""
    for name in lists:
        if name not in SPLITS:
            raise ValueError(f"must be lists for {', '.join(SPLITS)}, and has {name!r}")
