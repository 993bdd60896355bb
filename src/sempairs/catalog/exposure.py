"""What an encoder was shown: one row an image with its hashes, its split group and its sketch.

A run leaves such a record as `exposure.parquet`. It goes with whatever comes from the run: a copied encoder
folder (encoder.json names the record's hash), features by `sempairs embed` (FEATURES.exposure.parquet), pairs
mined from them (exposure.parquet in their folder), and a run that starts from the weights or trains on the
pairs, whose own record holds all of it. Where a record cannot be had, what is not known is written down.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sempairs.catalog.images import UnreadableImage, pixel_hash
from sempairs.catalog.near_copies import SKETCH_BYTES, sketch
from sempairs.catalog.sources import Source
from sempairs.catalog.sources.reading import in_threads, worker_count
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.files import atomic_write, sha256_bytes, sha256_file

EXPOSURE = "exposure.parquet"
#: Put behind the name of a table of features.
BESIDE = ".exposure.parquet"
SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("file_hash", pa.string()),
        pa.field("pixel_hash", pa.string()),
        pa.field("split_group", pa.string()),
        pa.field("source", pa.string()),  # as a recipe names it: groups mean nothing elsewhere
        pa.field("sketch", pa.binary(SKETCH_BYTES)),
    ]
)
_UNKNOWN = b"sempairs.unknown"
_ROWS = 1 << 13

Bytes = NDArray[np.uint8]
Int = NDArray[np.int64]


@dataclass(frozen=True)
class Inherited:
    """Records that a run takes over, and what it takes over without a record, a sentence each."""

    records: tuple[Path, ...] = ()
    unknown: tuple[str, ...] = ()

    def __add__(self, other: Inherited) -> Inherited:
        records = tuple(dict.fromkeys(self.records + other.records))
        return Inherited(records, tuple(dict.fromkeys(self.unknown + other.unknown)))


def beside(features: str | Path) -> Path:
    """Where the record of a table of features lies."""
    place = Path(features)
    return place.with_name(place.name + BESIDE)


def record_beside(folder: Path, expected: str | None, *, field: str) -> Path | None:
    """The record in a folder, or None. Raises: UserError if one of hash `expected` must be there and is
    not."""
    record = folder / EXPOSURE
    if not record.is_file():
        if expected is None:
            return None
        remedy = f"copy {EXPOSURE} from the folder of the run beside encoder.json"
        raise UserError(field, f"lacks {EXPOSURE}, so leakage cannot be ruled out", str(folder), remedy)
    if expected is not None and sha256_file(record) != expected:
        raise UserError(str(record), "is not the record that encoder.json names", remedy="restore it")
    return record


def fingerprints(
    source: Source, uris: Sequence[str], *, workers: int | None = None
) -> Iterator[tuple[str | None, bytes | None]]:
    """Pixel hash and sketch of images, in order, each decoded once; None for what cannot be read."""

    def taken(uri: str) -> tuple[str | None, bytes | None]:
        try:
            image = source.open_image(uri)
        except UnreadableImage:
            return None, None
        return pixel_hash(image), sketch(image).tobytes()

    return in_threads(taken, uris, worker_count(workers))


def write_record(
    path: Path,
    catalog: Catalog,
    rows: Int,
    source: Source | None,
    inherited: Inherited,
    *,
    cache: Path | None = None,
    shown: bool = False,
) -> None:
    """Writes the record of the images at `rows`, read from `source` (None: no image is read), and of all that
    is inherited. cache: a folder in which hashes and sketches are kept for other runs over the same images.

    Raises: UserError if an inherited record is damaged.
    """
    from sempairs.progress import track

    kept = None
    if source is not None:
        kept = _cached(catalog, rows, cache)
        uris = [text for piece in catalog.pieces("uri", rows) for text in piece.to_pylist()]
        found: Iterable[tuple[str | None, bytes | None]]
        found = _saved(kept) if kept is not None and kept.is_file() else fingerprints(source, uris)
        if shown:
            found = track(found, total=len(rows), what="hashing pixels", unit="image")
        prints = iter(found)
    unknown = list(inherited.unknown)
    tables = []
    for record in inherited.records:
        table, more = _read(record)
        tables.append(table)
        unknown += [text for text in more if text not in unknown]
    metadata = {_UNKNOWN: json.dumps(unknown)} if unknown else None
    new: list[tuple[str | None, bytes | None]] = []
    with (
        atomic_write(path) as temporary,
        pq.ParquetWriter(
            temporary, SCHEMA.with_metadata(metadata), compression="zstd", use_dictionary=["source"]
        ) as writer,
    ):
        for start in range(0, len(rows), _ROWS):
            part = catalog.select(rows[start : start + _ROWS])
            columns = {n: part.array(n).combine_chunks() for n in ("image_id", "file_hash", "split_group")}
            known = part.array("pixel_hash").to_pylist()
            drawn: list[bytes | None] = [None] * len(part)
            if source is not None:
                own = [next(prints) for _ in range(len(part))]
                known = [given or hashed for given, (hashed, _) in zip(known, own, strict=True)]
                drawn = [small for _, small in own]
                if kept is not None and not kept.is_file():
                    new += own
            columns |= {"pixel_hash": pa.array(known, pa.string())}
            columns["source"] = pa.array([source.spec if source is not None else None] * len(part))
            columns["sketch"] = pa.array(drawn, SCHEMA.field("sketch").type)
            writer.write_table(_cast([columns[name] for name in SCHEMA.names]))
        for table in tables:
            writer.write_table(table)
    if kept is not None and not kept.is_file():
        _save(kept, new)


def copy_record(inherited: Inherited, target: Path) -> str | None:
    """Copies the one record there is to `target`; returns its SHA-256, None where there is none."""
    if not inherited.records:
        return None
    (record,) = inherited.records
    with atomic_write(target) as temporary:
        shutil.copyfile(record, temporary)
    return sha256_file(target)


def read_record(path: Path) -> tuple[pa.Table, tuple[str, ...]]:
    """The rows of a record, and what it says is not known. Raises: UserError if it is damaged."""
    table, unknown = _read(path)
    return table, tuple(unknown)


def sketches_of(column: pa.ChunkedArray) -> tuple[Bytes, Int]:
    """The sketches (M, 1152) of a column, and the rows (M,) that have one."""
    rows = np.flatnonzero(column.is_valid().to_numpy().astype(bool)).astype(np.int64)
    parts = [
        np.frombuffer(b"".join(chunk.drop_null().to_pylist()), dtype=np.uint8) for chunk in column.chunks
    ]
    flat = np.concatenate(parts) if parts else np.empty(0, dtype=np.uint8)
    return flat.reshape(-1, SKETCH_BYTES), rows


def _read(path: Path) -> tuple[pa.Table, list[str]]:
    try:
        table = pq.read_table(path, partitioning=None)
        # Records of earlier versions have neither source nor sketch.
        columns = [
            table.column(field.name).cast(field.type)
            if field.name in table.column_names
            else pa.chunked_array([pa.nulls(len(table), field.type)])
            for field in SCHEMA
        ]
        if not {"file_hash", "pixel_hash"} <= set(table.column_names):
            raise pa.ArrowInvalid("it lacks the hashes")
        unknown = json.loads((table.schema.metadata or {}).get(_UNKNOWN, b"[]"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(str(path), f"is no readable record of exposure ({error})") from None
    return pa.table(columns, schema=SCHEMA), [str(text) for text in unknown]


def _cast(arrays: Sequence[pa.Array]) -> pa.Table:
    plain = [
        a.cast(field.type) if a.type != field.type else a for a, field in zip(arrays, SCHEMA, strict=True)
    ]
    return pa.table(plain, schema=SCHEMA)


def _cached(catalog: Catalog, rows: Int, cache: Path | None) -> Path | None:
    if cache is None:
        return None
    chosen = catalog.select(rows)
    names = (piece for name in ("image_id", "file_hash") for piece in chosen.pieces(name))
    key = sha256_bytes("\n".join(str(v) for piece in names for v in piece.to_pylist()).encode())
    return cache / f"fingerprints-{key[:32]}.parquet"


_PRINTS = pa.schema([("pixel_hash", pa.string()), ("sketch", pa.binary(SKETCH_BYTES))])


def _saved(path: Path) -> Iterator[tuple[str | None, bytes | None]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS):
            yield from zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)


def _save(path: Path, found: Sequence[tuple[str | None, bytes | None]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = [pa.array([row[i] for row in found], field.type) for i, field in enumerate(_PRINTS)]
    with atomic_write(path) as temporary:
        pq.write_table(pa.table(arrays, schema=_PRINTS), temporary, compression="zstd")
