"""Lists of pairs that somebody made: CSV or Parquet, checked row by row."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sempairs.errors import UserError
from sempairs.pairs.index import ImageIndex, Int, Mask

REMEDY = "give CSV or Parquet with the columns anchor and partner, and score if you have one"


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
    return _check(file, rows, index, np.ones(len(rows.line), dtype=bool))


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


def _check(file: Path, rows: Rows, index: ImageIndex, others: Mask) -> Checked:
    """others: rows that must pair two images."""
    if not rows.line and not rows.problems:
        raise UserError("pairs.file", "holds no pair", str(file))
    anchor, partner = items(index, rows.anchor), items(index, rows.partner)
    good, problems = np.ones(len(anchor), dtype=bool), list(rows.problems)

    def refuse(wrong: Mask, say: Callable[[int], str]) -> None:
        """Each row is refused once, for the first reason."""
        problems.extend(Problem(rows.line[at], say(at)) for at in np.flatnonzero(wrong & good).tolist())
        good[wrong] = False

    images = f"is not among the {len(index)} images given"
    refuse(anchor < 0, lambda at: f"anchor {rows.anchor[at]!r} {images}")
    refuse(partner < 0, lambda at: f"partner {rows.partner[at]!r} {images}")
    refuse(others & (anchor == partner), lambda at: f"pairs {rows.anchor[at]!r} with itself")
    refuse(
        index.split[anchor] != index.split[partner],
        lambda at: f"pairs images of two splits, {rows.anchor[at]!r} and {rows.partner[at]!r}",
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


def _csv(file: Path) -> Rows:
    anchor, partner, score, lines, problems = [], [], [], [], []
    try:
        with open(file, encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_columns(file, header)
            at = {name: header.index(name) for name in ("anchor", "partner", "score") if name in header}
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    said = f"has {len(cells)} cells where the header has {len(header)}"
                    problems.append(Problem(reader.line_num, said))
                    continue
                given = cells[at["score"]].strip() if "score" in at else ""
                value = _number(given)
                if given and not np.isfinite(value):
                    said = f"score must be a finite number or empty, got {given!r}"
                    problems.append(Problem(reader.line_num, said))
                    continue
                anchor.append(cells[at["anchor"]])
                partner.append(cells[at["partner"]])
                score.append(value)
                lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError("pairs.file", f"is not readable as CSV ({error})", str(file), REMEDY) from None
    return Rows(anchor, partner, np.array(score, dtype=float), lines, "line", tuple(problems))


def _parquet(file: Path) -> Rows:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise UserError("pairs.file", f"is not readable as Parquet ({error})", str(file), REMEDY) from None
    _check_columns(file, table.column_names)
    ids: dict[str, list[str | None]] = {}
    for name in ("anchor", "partner"):
        try:
            column = table.column(name).cast(pa.string())
        except pa.ArrowException:
            raise UserError(f"{file} {name}", "must hold image ids", str(table.column(name).type)) from None
        ids[name] = column.to_pylist()
    score, bad = np.full(table.num_rows, np.nan), dict[int, str]()
    if "score" in table.column_names:
        try:
            given = table.column("score").cast(pa.float64())
        except pa.ArrowException:
            raise UserError(f"{file} score", "must hold numbers", str(table.column("score").type)) from None
        score = given.to_numpy().astype(float)
        wrong = np.flatnonzero(given.is_valid().to_numpy() & ~np.isfinite(score)).tolist()
        bad |= {row: f"score must be a finite number, got {score[row]}" for row in wrong}
    for name in ("partner", "anchor"):
        bad |= {row: f"has no {name}" for row, value in enumerate(ids[name]) if value is None}
    kept = [row for row in range(table.num_rows) if row not in bad]
    anchor, partner = ([str(ids[name][row]) for row in kept] for name in ("anchor", "partner"))
    problems = tuple(Problem(row + 1, said) for row, said in bad.items())
    return Rows(anchor, partner, score[kept], [row + 1 for row in kept], "row", problems)


def _check_columns(file: Path, names: list[str]) -> None:
    for name in ("anchor", "partner"):
        if names.count(name) != 1:
            raise UserError(str(file), f"must have one column {name!r}", names[:20], REMEDY)


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
