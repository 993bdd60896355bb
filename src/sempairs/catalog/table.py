"""The catalogue: one Arrow table, one row an image, with what is known about it.

The working form is uncompressed Arrow IPC, memory-mapped on opening: ten million rows open at once and only
the columns that are used are read. Parquet is for exchange.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sempairs.catalog.hashing import ArrayHash, can_hash, taken
from sempairs.errors import UserError, unknown
from sempairs.files import atomic_write

#: The values of the column `split`; an image of no split has null.
SPLITS = ("train", "validation", "test")

#: The columns every catalogue has, in this order. Those that may be null say so.
SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("file_hash", pa.string(), nullable=False),
        pa.field("pixel_hash", pa.string()),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("licence", pa.string()),
        pa.field("attribution", pa.string()),
        pa.field("category", pa.string()),
        pa.field("concept", pa.string()),
        pa.field("domain", pa.string()),
        pa.field("split_group", pa.string()),
        pa.field("split", pa.string()),
    ]
)

_FORMAT = b"sempairs.catalog"
_VERSION = b"1"
_CONTENT = b"sempairs.content"
_BATCH_ROWS = 1 << 17
# Up to here the whole content is checked on opening (a fifth of a second); above, the structure only.
_CHECKED_ROWS = 200_000
# From so many rows on a selection is a list of row numbers; the values stay where they are, often on disk.
_LAZY_ROWS = 1 << 16
_PIECE = 1 << 14


@dataclass(frozen=True, eq=False)
class Catalog:
    """Images and their meaning. Columns of `SCHEMA` first, in its order, then any extra ones.

    Built by `from_columns` or `from_table`, which check the content; the bare constructor is for tables that
    have been checked already.
    """

    base: pa.Table
    rows: np.ndarray | None = None
    """Which rows of `base` these are, in order; None for all."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Catalog) and bool(self.table.equals(other.table))

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def table(self) -> pa.Table:
        """All columns. Of many rows of a saved catalogue this is a copy in memory: `array` gives one column,
        `pieces` a part of one at a time."""
        if self.rows is None:
            return self.base
        return pa.table({name: self.array(name) for name in self.names})

    @property
    def names(self) -> list[str]:
        """The columns."""
        found: list[str] = self.base.column_names
        return found

    def array(self, name: str) -> pa.ChunkedArray:
        """One column as Arrow has it."""
        column = self.base.column(name)
        if self.rows is None:
            return column
        return pa.chunked_array(list(self.pieces(name)), type=column.type)

    def pieces(self, name: str, rows: np.ndarray | None = None) -> Iterator[pa.Array]:
        """One column, or its values at `rows`, some ten thousand at a time."""
        column, chosen = self.base.column(name), self._in_base(rows)
        for start in range(0, len(chosen), _PIECE):
            yield taken(column, chosen[start : start + _PIECE])

    def coded(self, name: str) -> tuple[np.ndarray, list[Any]]:
        """One column as numbers (N,) into the distinct values also returned, in no particular order; -1 is
        null."""
        kind = self.base.column(name).type
        if pa.types.is_nested(kind):
            raise UserError(f"catalog.{name}", "must hold texts or numbers to tell images by", str(kind))
        number: dict[Any, int] = {}
        codes, start = np.empty(len(self), dtype=np.int32), 0
        for piece in self.pieces(name):
            encoded = piece.dictionary_encode()
            values = [number.setdefault(value, len(number)) for value in encoded.dictionary.to_pylist()]
            places = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
            codes[start : start + len(piece)] = np.array([*values, -1])[places]
            start += len(piece)
        return codes, list(number)

    def _in_base(self, rows: np.ndarray | None) -> np.ndarray:
        if self.rows is None:
            return np.arange(len(self)) if rows is None else rows
        return self.rows if rows is None else self.rows[rows]

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[Any]]) -> Catalog:
        """A catalogue from equally long sequences; nullable columns left out become null.

        Raises: UserError as `from_table` does.
        """
        arrays: dict[str, pa.Array] = {}
        for name, values in columns.items():
            kind = SCHEMA.field(name).type if name in SCHEMA.names else None
            try:
                arrays[name] = values if isinstance(values, _ARROW) else pa.array(values, type=kind)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise UserError(f"catalog.{name}", f"does not hold {kind or 'one type'} ({error})") from None
        lengths = {name: len(values) for name, values in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise UserError("catalog", "columns must have the same length", lengths)
        return cls.from_table(pa.table(arrays))

    @classmethod
    def from_table(cls, table: pa.Table) -> Catalog:
        """A catalogue from any Arrow table with the required columns; types are cast, row order is kept.

        Raises: UserError if a required column is absent or holds nulls, a value has another type, an id is
        empty or repeated, a split is none of `SPLITS`, or a size is below 1.
        """
        catalog = cls(_conform(table))
        catalog.check()
        return catalog

    def __len__(self) -> int:
        return int(self.base.num_rows) if self.rows is None else len(self.rows)

    @property
    def extra(self) -> tuple[str, ...]:
        """Names of the columns beyond `SCHEMA`."""
        return tuple(self.names[len(SCHEMA) :])

    def column(self, name: str) -> np.ndarray:
        """One column, (N,): strings as objects with None for null, numbers and booleans as numpy has them."""
        if name not in self.names:
            raise unknown("catalog column", name, self.names)
        values = self.array(name)
        found: np.ndarray = values.to_numpy()
        return found.astype(object) if pa.types.is_string(values.type) else found

    def value(self, name: str, row: int) -> Any:
        """What a column holds in one row."""
        return self.base.column(name)[row if self.rows is None else int(self.rows[row])].as_py()

    def select(self, rows: np.ndarray | Sequence[int] | Sequence[bool]) -> Catalog:
        """The given rows in the given order, or those where a boolean mask (N,) is true."""
        chosen = np.asarray(rows)
        if chosen.dtype == bool:
            assert chosen.shape == (len(self),), f"mask of shape {chosen.shape} for {len(self)} rows"
            chosen = np.flatnonzero(chosen)
        chosen = chosen.astype(np.int64)
        in_base = self._in_base(chosen)
        if len(chosen) >= _LAZY_ROWS:
            small = np.int32 if self.base.num_rows < 2**31 else np.int64
            return Catalog(self.base, in_base.astype(small))
        return Catalog(self.base.take(pa.array(in_base)))

    def rows_of(self, image_ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """Row numbers (int64) of the given ids. Raises: UserError for an id the catalogue lacks."""
        wanted = pa.array(image_ids, type=pa.string())
        rows = pc.index_in(wanted, value_set=self.array("image_id"))
        if rows.null_count:
            missing = wanted.filter(rows.is_null())
            got = missing[0].as_py()
            raise UserError("image_id", f"must be in the catalogue ({len(missing)} are not)", got)
        found: np.ndarray = rows.to_numpy().astype(np.int64)
        return found

    def with_column(self, name: str, values: Sequence[Any] | np.ndarray) -> Catalog:
        """This catalogue with one column replaced or, under a new name, added. Raises: as `from_table`."""
        kind = SCHEMA.field(name).type if name in SCHEMA.names else None
        column = pa.array(values, type=kind)
        required = name in SCHEMA.names and not SCHEMA.field(name).nullable
        if required:
            return Catalog.from_table(_with(self.table, name, column))
        if self.rows is not None:
            # The rows that are not selected get a null that nobody sees.
            place = np.full(self.base.num_rows, -1)
            place[self.rows] = np.arange(len(self))
            column = column.take(pa.array(place, mask=place < 0))
        found = Catalog(_conform(_with(self.base, name, column)), self.rows)
        found._check_splits()
        return found

    def in_order(self) -> Catalog:
        """The rows sorted by `image_id` (by code points)."""
        return Catalog(self.table.take(pa.array(self.order())))

    def content_hash(self) -> str:
        """SHA-256 over all columns but `source` (which names a folder of one machine), of rows sorted by id.

        Independent of row order, chunking and file form; reads everything.
        """
        order = self._in_base(self.order())
        digest = ArrayHash()
        for name in sorted(set(self.names) - {"source"}):
            digest.add(name, self.base.column(name), order)
        return digest.hexdigest()

    def order(self) -> np.ndarray:
        """The rows (N,) int64 sorted by `image_id` (by code points)."""
        last: str | None = None
        for piece in self.pieces("image_id"):
            ascending = last is None or last < piece[0].as_py()
            if not (ascending and pc.all(pc.less(piece[:-1], piece[1:])).as_py() in (True, None)):
                return np.asarray(pc.sort_indices(self.array("image_id")).to_numpy()).astype(np.int64)
            last = piece[-1].as_py()
        return np.arange(len(self))

    def check(self) -> None:
        """Reads and checks all content. Raises: UserError as `from_table`."""
        try:
            self.table.validate(full=True)
        except pa.ArrowException as error:
            raise UserError("catalog", f"is corrupt ({error})") from None
        for name in (field.name for field in SCHEMA if not field.nullable):
            column = self.table.column(name)
            if column.null_count:
                raise UserError(f"catalog.{name}", f"must not be null, but is in {column.null_count} rows")
        ids = self.table.column("image_id")
        if len(ids) and pc.min(pc.binary_length(ids)).as_py() == 0:
            raise UserError("catalog.image_id", "must not be empty")
        if pc.count_distinct(ids).as_py() != len(ids):
            counts = pc.value_counts(ids.combine_chunks())
            twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
            raise UserError("catalog.image_id", "must be unique", twice, "give every image an id of its own")
        self._check_splits()
        for side in ("width", "height"):
            smallest = pc.min(self.table.column(side)).as_py()
            if smallest is not None and smallest < 1:
                raise UserError(f"catalog.{side}", "must be at least 1 pixel", smallest)

    def _check_splits(self) -> None:
        for split in pc.unique(self.base.column("split")).to_pylist():
            if split is not None and split not in SPLITS:
                raise UserError("catalog.split", f"must be one of {', '.join(SPLITS)} or null", split)

    def save(self, path: str | Path) -> None:
        """Writes the catalogue whole or not at all: `.parquet` for exchange, else uncompressed Arrow IPC."""
        target = Path(path)
        stamp = {_FORMAT: _VERSION}
        if len(self) <= _CHECKED_ROWS:
            stamp[_CONTENT] = self.content_hash().encode()
        table = self.table.replace_schema_metadata(stamp)
        try:
            with atomic_write(target) as temporary:
                if target.suffix == ".parquet":
                    import pyarrow.parquet as pq

                    pq.write_table(table, temporary, compression="zstd")
                else:
                    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
                        file.write_table(table, max_chunksize=_BATCH_ROWS)
        except OSError as error:
            raise UserError(str(target), f"cannot be written ({error.strerror or error})") from None

    @classmethod
    def open(cls, path: str | Path) -> Catalog:
        """A saved catalogue; Arrow IPC is memory-mapped.

        Raises: UserError if the file is missing, no catalogue, damaged, or was changed after it was saved.
        Above 200,000 rows only the structure is checked; `check` reads the rest.
        """
        file = Path(path)
        if not file.is_file():
            raise UserError(str(file), "does not exist" if not file.exists() else "must be a file")
        try:
            table = _read(file)
            catalog = cls(_conform(table))
            stamp = table.schema.metadata or {}
            if stamp.get(_FORMAT, _VERSION) != _VERSION:
                raise UserError("catalog", "was written by a later version of sempairs")
            if len(catalog) <= _CHECKED_ROWS:
                catalog.check()
                if stamp.get(_CONTENT, b"") not in (b"", catalog.content_hash().encode()):
                    raise UserError("catalog", "was changed after it was saved")
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            remedy = "write it anew: `sempairs data scan`, or Catalog.from_table(table).save(path)"
            raise UserError(str(file), f"is not a valid catalogue ({error})", remedy=remedy) from None
        return catalog


def _with(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)


def _read(file: Path) -> pa.Table:
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(file, partitioning=None)
    with pa.memory_map(str(file)) as mapped:
        table = pa.ipc.open_file(mapped).read_all()
    # Before any value is looked at: offsets that point outside the file would crash the process.
    table.validate(full=table.num_rows <= _CHECKED_ROWS)
    return table


_ARROW = (pa.Array, pa.ChunkedArray)


def _conform(table: pa.Table) -> pa.Table:
    """The columns of `SCHEMA` in order and type, then the extra ones; nothing is copied that fits already."""
    if len(set(table.column_names)) != len(table.column_names):
        raise UserError("catalog", "must not name a column twice", table.column_names)
    arrays: list[Any] = []
    for field in SCHEMA:
        if field.name in table.column_names:
            arrays.append(_cast(field.name, table.column(field.name), field.type))
        elif field.nullable:
            arrays.append(pa.nulls(table.num_rows, field.type))
        else:
            raise UserError(f"catalog.{field.name}", "is a required column, and is missing")
    extra = [name for name in table.column_names if name not in SCHEMA.names]
    for name in extra:
        if not can_hash(table.column(name).type):
            kind = str(table.column(name).type)
            raise UserError(f"catalog.{name}", "must be text, numbers, booleans, or lists of them", kind)
    arrays += [_cast(name, table.column(name), _plain(table.column(name).type)) for name in extra]
    # Nullability is checked by `check`, not declared: Arrow kernels drop the flag on the way anyhow.
    fields = [pa.field(name, array.type) for name, array in zip([*SCHEMA.names, *extra], arrays, strict=True)]
    return pa.table(arrays, schema=pa.schema(fields))


def _plain(kind: pa.DataType) -> pa.DataType:
    """Strings in one type, whatever form (large, view, dictionary) they came in."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    is_text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind)
    return pa.string() if is_text else kind


def _cast(name: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    if pa.types.is_string(kind) and not pa.types.is_string(_plain(column.type)):
        raise UserError(f"catalog.{name}", f"must hold {kind}", str(column.type))
    try:
        return column.cast(kind)
    except pa.ArrowException:
        raise UserError(f"catalog.{name}", f"must hold {kind}", str(column.type)) from None
