"""Lists of pairs that somebody made: CSV or Parquet, checked row by row."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows as read: ids, scores, and the line or row (`unit`) each stands in."""

    anchor: list[str]
    partner: list[str]
    score: NDArray[np.float64]
    line: list[int]
    unit: str


def read_list(path: str | Path, index: ImageIndex) -> PairList:
    """The pairs in a file, by item.

    Raises: UserError, naming file and line, for an id the catalogue lacks, an image with itself or with an
    equal picture, a pair that is there twice (in either order) or across splits, a score that is no number.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError("pairs.file", "must be an existing file, or a folder of pairs", str(file), REMEDY)
    return checked(file, _parquet(file) if file.suffix == ".parquet" else _csv(file), index)


def checked(file: Path, rows: Rows, index: ImageIndex, own: Mask | None = None) -> PairList:
    """The rows by item. own: rows (N,) that may pair an image with itself. Raises: as `read_list`."""
    if not rows.line:
        raise UserError("pairs.file", "holds no pair", str(file))
    anchor, partner = items(index, rows.anchor), items(index, rows.partner)
    others = np.ones(len(anchor), dtype=bool) if own is None else ~own
    images = f"is not among the {len(index)} images given"
    _refuse(file, rows, anchor < 0, lambda at: f"anchor {rows.anchor[at]!r} {images}")
    _refuse(file, rows, partner < 0, lambda at: f"partner {rows.partner[at]!r} {images}")
    _refuse(file, rows, others & (anchor == partner), lambda at: f"pairs {rows.anchor[at]!r} with itself")
    _refuse(
        file, rows, index.split[anchor] != index.split[partner],
        lambda at: f"pairs images of two splits, {rows.anchor[at]!r} and {rows.partner[at]!r}",
    )  # fmt: skip
    _refuse(
        file, rows, others & (index.picture[anchor] == index.picture[partner]),
        lambda at: f"pairs two copies of one picture, {rows.anchor[at]!r} and {rows.partner[at]!r}",
    )  # fmt: skip
    _refuse_repeats(file, rows, anchor, partner)
    return PairList(anchor, partner, rows.score)


def _csv(file: Path) -> Rows:
    anchor, partner, score, lines = [], [], [], []
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
                    found = f"has {len(cells)} cells where the header has {len(header)}"
                    raise UserError(f"{file} line {reader.line_num}", found)
                anchor.append(cells[at["anchor"]])
                partner.append(cells[at["partner"]])
                score.append(_number(cells[at["score"]], file, reader.line_num) if "score" in at else np.nan)
                lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError("pairs.file", f"is not readable as CSV ({error})", str(file), REMEDY) from None
    return Rows(anchor, partner, np.array(score, dtype=float), lines, "line")


def _parquet(file: Path) -> Rows:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise UserError("pairs.file", f"is not readable as Parquet ({error})", str(file), REMEDY) from None
    _check_columns(file, table.column_names)
    ids: dict[str, list[str]] = {}
    for name in ("anchor", "partner"):
        try:
            column = table.column(name).cast(pa.string())
        except pa.ArrowException:
            raise UserError(f"{file} {name}", "must hold image ids", str(table.column(name).type)) from None
        if column.null_count:
            row = pc.index(column.is_null(), True).as_py() + 1
            raise UserError(f"{file} row {row}", f"has no {name}")
        ids[name] = column.to_pylist()
    score = np.full(table.num_rows, np.nan)
    if "score" in table.column_names:
        try:
            given = table.column("score").cast(pa.float64())
        except pa.ArrowException:
            raise UserError(f"{file} score", "must hold numbers", str(table.column("score").type)) from None
        score = given.to_numpy().astype(float)
        wrong = np.flatnonzero(given.is_valid().to_numpy() & ~np.isfinite(score))
        if len(wrong):
            raise UserError(
                f"{file} row {wrong[0] + 1}", "score must be a finite number", float(score[wrong[0]])
            )
    return Rows(ids["anchor"], ids["partner"], score, list(range(1, table.num_rows + 1)), "row")


def _check_columns(file: Path, names: list[str]) -> None:
    for name in ("anchor", "partner"):
        if names.count(name) != 1:
            raise UserError(str(file), f"must have one column {name!r}", names[:20], REMEDY)


def _number(text: str, file: Path, line: int) -> float:
    if not text.strip():
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise UserError(f"{file} line {line}", "score must be a finite number or empty", text)
    return value


def items(index: ImageIndex, ids: list[str]) -> Int:
    """The item of each id, -1 where there is none."""
    found = pc.index_in(pa.array(ids, type=pa.string()), value_set=pa.array(index.ids, type=pa.string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False)).astype(np.int64)


def _refuse_repeats(file: Path, rows: Rows, anchor: Int, partner: Int) -> None:
    low, high = np.minimum(anchor, partner), np.maximum(anchor, partner)
    order = np.lexsort((high, low))
    again = (low[order][1:] == low[order][:-1]) & (high[order][1:] == high[order][:-1])
    first = np.full(len(anchor), -1, dtype=np.int64)
    first[order[1:][again]] = order[:-1][again]
    _refuse(
        file, rows, first >= 0,
        lambda at: f"repeats {rows.unit} {rows.line[first[at]]} "
        f"({rows.anchor[at]!r}, {rows.partner[at]!r}; the order in a pair does not count)",
    )  # fmt: skip


def _refuse(file: Path, rows: Rows, wrong: Mask, say: Callable[[int], str]) -> None:
    """Raises: UserError for the first wrong row, with the number of further ones."""
    found = np.flatnonzero(wrong)
    if len(found):
        more = f" (and {len(found) - 1} more such rows)" if len(found) > 1 else ""
        raise UserError(f"{file} {rows.unit} {rows.line[found[0]]}", say(int(found[0])) + more)
