"""Category trees: a flat class (`n02084071`, `cat`) becomes a path in a tree (`animal/mammal/cat`).

A tree is WordNet, or a CSV file of one's own in one of two forms:

    category,path                        category,parent
    cat,animal/mammal/cat                cat,mammal
                                         mammal,animal
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from sempairs.catalog.names import plain, printable
from sempairs.catalog.table import Catalog
from sempairs.catalog.wordnet import WordNet, wnid_of
from sempairs.errors import UserError, nearest
from sempairs.texts import Row, read_rows

FIELD = "data.tree"
_FORMS = ("path", "parent")


def apply_tree(catalog: Catalog, spec: str, *, collapse: bool = False) -> Catalog:
    """The catalogue with each category replaced by its path in the tree that `spec` names.

    spec: `wordnet`, `wordnet:PATH` (a WordNet 3.0 `dict/` folder), or a CSV file. Images without a category
    keep none. Categories of one synset become one. collapse: see `collapsed`.
    Raises: UserError for a tree that cannot be read, and for a category that is not in it.
    """
    names = category_names(catalog)
    if not names:
        raise UserError(FIELD, "needs images with a category, and none has one")
    paths = tree_paths(names, spec)
    if collapse:
        shorter = collapsed(paths.values())
        paths = {name: shorter[path] for name, path in paths.items()}
    return replaced(catalog, paths)


def category_names(catalog: Catalog) -> list[str]:
    """The categories that images have, sorted."""
    found: list[str] = catalog.array("category").unique().drop_null().to_pylist()
    return sorted(found)


def replaced(catalog: Catalog, paths: Mapping[str, str]) -> Catalog:
    """The catalogue with each category under its new name."""
    place = pc.index_in(catalog.array("category"), value_set=pa.array(list(paths), type=pa.string()))
    renamed = pa.array(list(paths.values()), type=pa.string()).take(place.combine_chunks())
    return catalog.with_column("category", renamed)


def tree_paths(categories: Iterable[str], spec: str) -> dict[str, str]:
    """The path of each category. Raises: UserError, as `apply_tree`."""
    kind, colon, rest = spec.partition(":")
    if kind == "wordnet":
        return _wordnet_paths(categories, rest if colon else None)
    file = Path(spec).expanduser()
    if file.suffix != ".csv" or not file.is_file():
        raise UserError(FIELD, "must be wordnet, wordnet:PATH or an existing CSV file", spec)
    known = _csv_paths(file)
    missing = [name for name in categories if name not in known]
    if missing:
        near = nearest(missing[0], known)
        raise UserError(
            f"{FIELD} {file}", f"must name every category of the images ({len(missing)} are missing)",
            missing[0], f"did you mean {near!r}?" if near else "add a line for it",
        )  # fmt: skip
    return {name: known[name] for name in categories}


def collapsed(paths: Iterable[str]) -> dict[str, str]:
    """Each path without the categories on the way that divide nothing: those that are no class themselves and
    have one category below them. So one level up means the nearest category with others in it.

    WordNet has long chains of such categories. What remains depends on the set of paths, and on nothing else;
    what two classes share stays shared. A chain is kept where its end would take another's name.
    """
    classes = set(paths)
    below: dict[str, set[str]] = {}
    for path in classes:
        node = path
        while node and node not in below.setdefault(above := node.rpartition("/")[0], set()):
            below[above].add(node)
            node = above
    short = {"": ""}
    waiting = [""]
    while waiting:
        node = waiting.pop()
        children = sorted(below.get(node, ()))
        ends = [_end_of_chain(child, below, classes) for child in children]
        # A name that is the start or the end of one chain only cannot be taken for another's.
        names = Counter(_last(name) for chain in zip(children, ends, strict=True) for name in {*chain})
        for child, end in zip(children, ends, strict=True):
            free = names[_last(end)] == 1 or _last(end) == _last(child)
            kept = _last(end) if free else end[len(node) :].strip("/")
            short[end] = f"{short[node]}/{kept}".lstrip("/")
            waiting.append(end)
    return {path: short[path] for path in classes}


def _last(node: str) -> str:
    return node.rpartition("/")[2]


def _end_of_chain(node: str, below: Mapping[str, set[str]], classes: set[str]) -> str:
    while node not in classes and len(below[node]) == 1:
        (node,) = below[node]
    return node


def _wordnet_paths(categories: Iterable[str], path: str | None) -> dict[str, str]:
    found = {}
    with WordNet(path) as wordnet:
        for category in categories:
            wnid = wnid_of(category)
            if wnid is None:
                rule = "wordnet needs categories that are synsets, such as n02084071"
                raise UserError(FIELD, rule, category, "give a CSV file: category,path")
            found[category] = wordnet.path_of(wnid)
    return found


def _csv_paths(file: Path) -> dict[str, str]:
    """The path of every category in the file. Raises: UserError that names the line."""
    form, rows = _csv_rows(file)
    lines: dict[str, int] = {}
    for line, category, _ in rows:
        if category in lines:
            raise UserError(
                f"{file} line {line}", f"names a category again (line {lines[category]})", category
            )
        lines[category] = line
    if form == "parent":
        return _joined(file, {category: parent for _, category, parent in rows}, lines)
    owner: dict[str, str] = {}
    for line, category, path in rows:
        if not all(part.strip() for part in path.split("/")):
            raise UserError(f"{file} line {line}", "path must be names with / between, none empty", path)
        if path in owner:
            raise UserError(f"{file} line {line}", f"gives the path of line {lines[owner[path]]} again", path)
        owner[path] = category
    return {category: path for path, category in owner.items()}


def _joined(file: Path, parent: Mapping[str, str], lines: Mapping[str, int]) -> dict[str, str]:
    """Paths from each category's parent; a parent without a line, and one left empty, is outermost."""
    done: dict[str, str] = {"": ""}
    for category in parent:
        way = [category]
        while way[-1] not in done:
            above = parent.get(way[-1], "")
            if above in way:
                first = min(way[way.index(above) :], key=lines.__getitem__)
                raise UserError(f"{file} line {lines[first]}", "makes a category lie above itself", first)
            way.append(above)
        for name in reversed(way[:-1]):
            done[name] = f"{done[parent.get(name, '')]}/{name}".lstrip("/")
    return {category: done[category] for category in parent}


def _csv_rows(file: Path) -> tuple[str, list[tuple[int, str, str]]]:
    """Which form the file has, and line, category and path or parent of each row."""
    rows = []
    try:
        # Bytes that are no UTF-8 come through as surrogates, so that their line can be named.
        lines = read_rows(file, errors="surrogateescape")
        header = next(lines, Row(1, 1, [])).cells
        form = next((name for name in _FORMS if sorted(header) == sorted(["category", name])), "")
        if not form:
            shown = [printable(name) for name in header[:20]]
            raise UserError(
                f"{FIELD} {file}", "must have the columns category,path or category,parent", shown
            )
        at, other = header.index("category"), header.index(form)
        for _, line, cells in lines:
            _check_row(file, line, cells, form, at)
            rows.append((line, plain(cells[at]).strip(), plain(cells[other]).strip()))
    except (OSError, UnicodeError, csv.Error) as error:
        raise UserError(f"{FIELD} {file}", f"is not readable as CSV ({error})") from None
    return form, rows


def _check_row(file: Path, line: int, cells: list[str], form: str, at: int) -> None:
    where = f"{file} line {line}"
    if len(cells) != 2:
        raise UserError(where, "must have two cells", len(cells))
    for cell in cells:
        if printable(cell) != cell:
            raise UserError(where, "must be printable UTF-8", printable(cell))
        if form == "parent" and "/" in cell:
            raise UserError(where, "must not have / in a name", cell, "use the columns category,path")
    if not cells[at].strip():
        raise UserError(where, "names no category")
