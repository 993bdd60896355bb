"""Lists of pairs that somebody made: CSV or Parquet, checked row by row."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sempairs.catalog.columns import known_columns
from sempairs.catalog.lookup import Images
from sempairs.errors import UserError
from sempairs.pairs.index import ImageIndex, Int, Mask
from sempairs.texts import Row, read_rows

COLUMNS = ("anchor", "partner", "score")
REMEDY = "give CSV or Parquet with the columns anchor and partner, and score if you have one"
# Names that are no image's, to each of which the nearest is looked for.
_LOOKED_FOR = 20


@dataclass(frozen=True, eq=False)
class PairList:
    """Rows of a list, in its order: items of the index, and scores (NaN for none)."""

    anchor: Int
    partner: Int
    score: NDArray[np.float64]


class Problem(NamedTuple):
    """What is wrong with the row in one line (of a CSV) or row (of a Parquet file)."""

    line: int
    said: str


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows as read: ids, scores, and the line or row (`unit`) each stands in. problems: of rows that could
    not be read and are left out."""

    anchor: list[str]
    partner: list[str]
    score: NDArray[np.float64]
    line: list[int]
    unit: str
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, eq=False)
class Checked:
    """The good rows of a list, and what is wrong with the others, in their order. rows: of both."""

    pairs: PairList
    problems: tuple[Problem, ...]
    rows: int
    unit: str


def read_list(path: str | Path, index: ImageIndex) -> PairList:
    """The pairs in a file, by item.

    Raises: UserError, naming file and line, for an id the catalogue lacks, an image with itself or with an
    equal picture, a pair that is there twice (in either order) or across splits, a score that is no number.
    Of several such rows it names the first and says how many there are; `check_list` has them all.
    """
    return _sound(Path(path), check_list(path, index))


def check_list(path: str | Path, index: ImageIndex) -> Checked:
    """Every row of a file, checked. Raises: UserError if it is no such file or holds no row."""
    file = Path(path)
    if not file.is_file():
        raise UserError("pairs.file", "must be an existing file, or a folder of pairs", str(file), REMEDY)
    rows = _parquet(file) if file.suffix == ".parquet" else _csv(file)
    return _check(file, rows, index, np.ones(len(rows.line), dtype=bool), loose=True)


def checked(file: Path, rows: Rows, index: ImageIndex, own: Mask) -> PairList:
    """The rows by item. own: rows (N,) that may pair an image with itself. Raises: as `read_list`."""
    return _sound(file, _check(file, rows, index, ~own))


def _sound(file: Path, found: Checked) -> PairList:
    if found.problems:
        first, more = found.problems[0], len(found.problems) - 1
        said = f"{first.said} (and {more} more bad rows)" if more else first.said
        remedy = "`sempairs pairs check` lists them all" if more and file.is_file() else ""
        raise UserError(f"{file} {found.unit} {first.line}", said, remedy=remedy)
    return found.pairs


def _check(file: Path, rows: Rows, index: ImageIndex, others: Mask, *, loose: bool = False) -> Checked:
    """others: rows that must pair two images. loose: a person wrote the names, maybe paths and no ids."""
    if not rows.line and not rows.problems:
        raise UserError("pairs.file", "holds no pair", str(file))
    known = _Known(index)
    anchor, partner = (known.items(names, loose=loose) for names in (rows.anchor, rows.partner))
    good, problems = np.ones(len(anchor), dtype=bool), list(rows.problems)

    split = index.labels("split").texts()

    def refuse(wrong: Mask, say: Callable[[int], str]) -> None:
        """Each row is refused once, for the first reason."""
        problems.extend(Problem(rows.line[at], say(at)) for at in np.flatnonzero(wrong & good).tolist())
        good[wrong] = False

    refuse(anchor < 0, lambda at: f"anchor {known.absent(rows.anchor[at])}")
    refuse(partner < 0, lambda at: f"partner {known.absent(rows.partner[at])}")
    refuse(others & (anchor == partner), lambda at: f"pairs {rows.anchor[at]!r} with itself")
    refuse(
        index.split[anchor] != index.split[partner],
        lambda at: (
            f"pairs images of two splits, {rows.anchor[at]!r} ({split[anchor[at]]}) and "
            f"{rows.partner[at]!r} ({split[partner[at]]})"
        ),
    )
    refuse(
        others & (index.picture[anchor] == index.picture[partner]),
        lambda at: f"pairs two copies of one picture, {rows.anchor[at]!r} and {rows.partner[at]!r}",
    )
    first = _repeated(anchor, partner)
    refuse(
        first >= 0,
        lambda at: (
            f"repeats {rows.unit} {rows.line[first[at]]} "
            f"({rows.anchor[at]!r}, {rows.partner[at]!r}; the order in a pair does not count)"
        ),
    )
    pairs = PairList(anchor[good], partner[good], rows.score[good])
    return Checked(pairs, tuple(sorted(problems)), len(rows.line) + len(rows.problems), rows.unit)


class _Known:
    """The images that a list may name."""

    def __init__(self, index: ImageIndex) -> None:
        self._index = index
        self._looked_for = 0

    def items(self, names: list[str], *, loose: bool) -> Int:
        """The item of each name, -1 where there is none. loose: also by its path in the source."""
        found = items(self._index, names)
        if loose:
            for at in np.flatnonzero(found < 0).tolist():
                found[at] = self._images.find(names[at])
        return found

    def absent(self, name: str) -> str:
        """What is said of a name that is none of an image. The nearest is looked for a few times only."""
        said = f"{name!r} is not among the {len(self._index)} images given"
        splits = set(self._index.labels("split").texts())
        if len(splits) == 1 and splits != {None}:
            said += f" (all of the split {splits.pop()})"
        self._looked_for += 1
        near = self._images.nearest(name) if self._looked_for <= _LOOKED_FOR else ""
        if near:
            return f"{said}; did you mean {near!r}?"
        return f"{said}, whose ids are such as {self._index.ids[0]!r}"

    @cached_property
    def _images(self) -> Images:
        uris = self._index.catalog.pieces("uri", self._index.rows)
        sources = self._index.catalog.array("source").unique().to_pylist()
        return Images(self._index.ids, [uri for piece in uris for uri in piece.to_pylist()], sources)


def _csv(file: Path) -> Rows:
    anchor, partner, score, lines, problems = [], [], [], [], []
    try:
        rows = read_rows(file)
        header = next(rows, Row(1, 1, [])).cells
        at = _columns(file, header)
        for _, line, cells in rows:
            if len(cells) != len(header):
                said = f"has {len(cells)} cells where the header has {len(header)}"
                problems.append(Problem(line, said))
                continue
            given = cells[at["score"]].strip() if "score" in at else ""
            value = _number(given)
            if given and not np.isfinite(value):
                said = f"score must be a finite number or empty, got {given!r}"
                problems.append(Problem(line, said))
                continue
            anchor.append(cells[at["anchor"]])
            partner.append(cells[at["partner"]])
            score.append(value)
            lines.append(line)
    except (UnicodeError, csv.Error, OSError) as error:
        raise UserError("pairs.file", f"is not readable as CSV ({error})", str(file), REMEDY) from None
    return Rows(anchor, partner, np.array(score, dtype=float), lines, "line", tuple(problems))


def _parquet(file: Path) -> Rows:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise UserError("pairs.file", f"is not readable as Parquet ({error})", str(file), REMEDY) from None
    place = _columns(file, table.column_names)
    ids: dict[str, list[str | None]] = {}
    for name in ("anchor", "partner"):
        try:
            column = table.column(place[name]).cast(pa.string())
        except pa.ArrowException:
            kind = str(table.column(place[name]).type)
            raise UserError(f"{file} {name}", "must hold image ids", kind) from None
        ids[name] = column.to_pylist()
    score, bad = np.full(table.num_rows, np.nan), dict[int, str]()
    if "score" in place:
        column = table.column(place["score"])
        try:
            given = column.cast(pa.float64())
        except pa.ArrowException:
            raise UserError(f"{file} score", "must hold numbers", str(column.type)) from None
        score = given.to_numpy().astype(float)
        wrong = np.flatnonzero(given.is_valid().to_numpy() & ~np.isfinite(score)).tolist()
        bad |= {row: f"score must be a finite number, got {score[row]}" for row in wrong}
    for name in ("partner", "anchor"):
        bad |= {row: f"has no {name}" for row, value in enumerate(ids[name]) if value is None}
    kept = [row for row in range(table.num_rows) if row not in bad]
    anchor, partner = ([str(ids[name][row]) for row in kept] for name in ("anchor", "partner"))
    problems = tuple(Problem(row + 1, said) for row, said in bad.items())
    return Rows(anchor, partner, score[kept], [row + 1 for row in kept], "row", problems)


def _columns(file: Path, names: list[str]) -> dict[str, int]:
    """Where the columns are that a list has. Raises: UserError if one that it needs is not there once."""
    own = {name: own for own, name in known_columns(names, COLUMNS).items()}
    for name in COLUMNS[:2]:
        if name not in own or names.count(own[name]) != 1:
            raise UserError(str(file), f"must have one column {name!r}", names[:20], REMEDY)
    return {name: names.index(column) for name, column in own.items()}


def _number(text: str) -> float:
    """NaN for what is no number."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def items(index: ImageIndex, ids: list[str]) -> Int:
    """The item of each id, -1 where there is none."""
    found = pc.index_in(pa.array(ids, type=pa.string()), value_set=pa.array(index.ids, type=pa.string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False)).astype(np.int64)


def _repeated(anchor: Int, partner: Int) -> Int:
    """For each row the one before it that pairs the same images, -1 where there is none, (N,)."""
    low, high = np.minimum(anchor, partner), np.maximum(anchor, partner)
    order = np.lexsort((high, low))
    again = (low[order][1:] == low[order][:-1]) & (high[order][1:] == high[order][:-1])
    first = np.full(len(anchor), -1, dtype=np.int64)
    first[order[1:][again]] = order[:-1][again]
    return first
