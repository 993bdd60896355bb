"""Text files that users give, whole or as a table of cells, in the encoding their byte order mark says."""

from __future__ import annotations

import codecs
import csv
import itertools
import os
from collections.abc import Iterator
from typing import NamedTuple, TextIO

# Longest first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What a mark is read as where files that begin with one were joined.
_MARK = "\ufeff"


class Row(NamedTuple):
    """The cells of one row, and the numbers of its first and last line."""

    first: int
    last: int
    cells: list[str]


def decode_text(data: bytes, *, errors: str = "strict") -> str:
    """The text of bytes that any tool wrote: a byte order mark says which UTF it is in and is left out; else
    it is UTF-8. Raises: UnicodeError, unless `errors` says what to do."""
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    return data.decode(encoding, errors)


def open_text(path: str | os.PathLike[str], *, errors: str = "strict", newline: str | None = None) -> TextIO:
    """A text file opened for reading: UTF-8, or what a byte order mark says; the mark is no part of the text.

    errors: of UTF-8 only, as `open` has it. Reading raises UnicodeError for what is no such text, and
    OSError.
    """
    with open(path, "rb") as handle:
        start = handle.read(4)
    encoding = next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8-sig")
    return open(
        path, encoding=encoding, errors=errors if encoding == "utf-8-sig" else "strict", newline=newline
    )


def read_text(path: str | os.PathLike[str], *, errors: str = "strict") -> str:
    """The text of a file, without byte order marks at the beginning of any line. Raises: as `open_text`."""
    with open_text(path, errors=errors) as handle:
        return handle.read().replace(f"\n{_MARK}", "\n")


def read_rows(path: str | os.PathLike[str], *, errors: str = "strict") -> Iterator[Row]:
    """The rows of a table, the line of column names first; blank lines are left out.

    Cells are divided by what divides the column names: tabs, commas, or semicolons (as spreadsheets write
    where the comma is the decimal sign). Names are stripped.

    Raises: as `open_text`; csv.Error, whose text says where: `at line 2: ...`.
    """
    with open_text(path, errors=errors, newline="") as handle:
        head = handle.readline()
        said = head.strip()
        skipped = len(said) == 5 and said.lower().startswith("sep=")  # Excel's own word on it
        divider = said[4] if skipped else next((mark for mark in "\t,;" if mark in head), ",")
        reader = csv.reader(
            handle if skipped else itertools.chain([head], handle), strict=True, delimiter=divider
        )
        before, named = int(skipped), False
        try:
            for cells in reader:
                first, last = before + 1, reader.line_num + skipped
                before = last
                if cells:
                    cells[0] = cells[0].removeprefix(_MARK)
                    yield Row(first, last, cells if named else [cell.strip() for cell in cells])
                    named = True
        except csv.Error as error:
            raise csv.Error(f"at line {reader.line_num + skipped}: {error}") from None
