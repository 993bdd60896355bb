"""A hash of Arrow columns that depends on their values only, not on how they are stored."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def can_hash(kind: pa.DataType) -> bool:
    """Whether `ArrayHash` takes columns of this type: text, numbers, booleans, lists of them."""
    if pa.types.is_dictionary(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return can_hash(kind.value_type)
    return any(test(kind) for test in _TYPES)


_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
)


class ArrayHash:
    """SHA-256 over named columns: null masks, lengths and values, each preceded by its name and type.

    Chunking, offsets, dictionary encoding and what lies in the slots of nulls make no difference.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    def add(self, name: str, column: pa.ChunkedArray, rows: np.ndarray | None = None) -> None:
        """Adds one column, or its values at `rows` (N,), of which it copies a few at a time.

        Raises: TypeError for a type that a catalogue cannot hold.
        """
        self._text(name)
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if rows is not None and not is_text:
            column, rows = column.take(pa.array(rows)), None
        self._values(column, rows)

    def _values(self, column: pa.ChunkedArray, rows: np.ndarray | None = None) -> None:
        column = column.cast(_stored_plainly(column.type))
        kind = column.type
        if rows is not None:
            self._text(f"{len(rows)}")
            valid = column.is_valid().to_numpy().astype(bool)[rows] if column.null_count else None
            self._array(np.packbits(np.ones(len(rows), dtype=bool) if valid is None else valid))
            self._text("text")
            for start in range(0, len(rows), _PIECE):
                self._strings(taken(column, rows[start : start + _PIECE]))
            return
        self._text(f"{len(column)}")
        self._array(np.packbits(column.is_valid().to_numpy().astype(bool)))
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            self._text("text")
            for piece in _pieces(column):
                self._strings(piece)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            self._text("list")
            self._array(pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype("<i8"))
            self._values(pa.chunked_array([pc.list_flatten(column).combine_chunks()], type=kind.value_type))
        elif pa.types.is_boolean(kind):
            self._text("boolean")
            self._array(pc.fill_null(column, False).to_numpy().astype("u1"))
        elif pa.types.is_integer(kind):
            self._text("integer")
            self._array(pc.fill_null(column, 0).to_numpy().astype("<i8"))
        elif pa.types.is_floating(kind):
            self._text("real")
            self._array(pc.fill_null(column, 0.0).to_numpy().astype("<f8"))
        else:
            raise TypeError(f"a catalogue column cannot be of type {kind}")

    def _strings(self, piece: pa.Array) -> None:
        filled = pc.fill_null(piece.cast(pa.large_string()), "")
        self._array(pc.binary_length(filled).to_numpy().astype("<i8"))
        self._digest.update(_characters(filled))

    def _text(self, text: str) -> None:
        data = text.encode()
        self._digest.update(f"{len(data)}:".encode() + data)

    def _array(self, values: np.ndarray) -> None:
        self._digest.update(np.ascontiguousarray(values).tobytes())


def _stored_plainly(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _stored_plainly(kind.value_type)
    is_text = pa.types.is_string_view(kind) or pa.types.is_null(kind)
    return pa.large_string() if is_text else kind


_PIECE = 1 << 16


def _pieces(column: pa.ChunkedArray) -> list[pa.Array]:
    """The column in pieces of a fixed length, so that its own chunks do not show in the hash."""
    whole = [column.slice(start, _PIECE) for start in range(0, len(column), _PIECE)]
    return [pa.concat_arrays(piece.chunks) for piece in whole]


def taken(column: pa.ChunkedArray, rows: np.ndarray) -> pa.Array:
    """The values of a column at `rows` (n,). Arrow's own `take` would first copy a chunked column whole."""
    if column.num_chunks == 1:
        return column.chunk(0).take(pa.array(rows))
    starts = np.cumsum([0, *(len(chunk) for chunk in column.chunks)])
    which = np.searchsorted(starts, rows, side="right") - 1
    order = np.argsort(which, kind="stable")
    parts = [pa.array([], type=column.type)]
    for number in np.unique(which):
        inside = rows[order][which[order] == number] - starts[number]
        parts.append(column.chunk(int(number)).take(pa.array(inside)))
    place = np.empty(len(rows), dtype=np.int64)
    place[order] = np.arange(len(rows))
    return pa.concat_arrays(parts).take(pa.array(place))


def _characters(array: pa.LargeStringArray) -> memoryview:
    """The bytes of all strings of `array`, one after another."""
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, "<i8")[array.offset : array.offset + len(array) + 1]
    return memoryview(data)[ends[0] : ends[-1]] if data is not None else memoryview(b"")
