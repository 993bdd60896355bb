"""The files of pairs inside a release: `pairs/<arm>.parquet`, their images in the release's own catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sempairs.catalog.sources.release import ReleaseSource
from sempairs.catalog.table import Catalog
from sempairs.config import validate
from sempairs.errors import UserError, unknown
from sempairs.files import sha256_file
from sempairs.pairs.config import PairsConfig, PairsSection

RELEASED = "pairs"
REMEDY = "try `sempairs release verify`"


class ReleasedPairs(NamedTuple):
    """One arm of a release as its files hold it, not yet checked against its manifest hash.

    table: its pairs. catalog: the images it uses. catalog_hash, catalog_images: of the catalogue the set
    was built from. mining: of mined pairs, as `pairs.json` has it. file, manifest_hash: what was released.
    """

    table: pa.Table
    catalog: Catalog
    config: PairsConfig
    pairs_per_epoch: int
    catalog_hash: str
    catalog_images: int
    mining: Mapping[str, Any] | None
    file: Path
    manifest_hash: str


def read_released(
    root: str | Path, arm: str, schema: pa.Schema, *, catalog: Catalog | None = None
) -> ReleasedPairs:
    """One arm of the pairs that a release holds.

    catalog: the release's own, where it has been read already.
    Raises: UserError if the release holds no pairs or not this arm, or the file is not the one released.
    """
    source = ReleaseSource(str(root))
    about = source.about.get("pairs")
    where = str(source.root)
    if about is None:
        raise UserError(where, "is a release without pairs", remedy="see `sempairs pairs build`")
    try:
        sets = dict(about["sets"])
        if arm not in sets:
            raise unknown(f"{where}: arm", arm, sorted(sets))
        file, expected = source.root / str(sets[arm]["file"]), str(sets[arm]["manifest_hash"])
        checksum = str(sets[arm]["sha256"])
        facts = int(sets[arm]["pairs_per_epoch"]), str(about["catalog_hash"]), int(about["catalog_images"])
        config = validate(PairsSection, {"pairs": {**about["config"], "arm": arm}}, where=where).pairs
        mining = about.get("mining")
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(where, "does not say what its pairs are", remedy=REMEDY) from None
    if file.parent != source.root / RELEASED or not file.is_file():
        raise UserError(str(file), "is missing", remedy=REMEDY)
    if sha256_file(file) != checksum:
        raise UserError(str(file), "was changed or cut short since it was released", remedy=REMEDY)
    table = _read(file, schema)
    catalog = source.scan().catalog if catalog is None else catalog
    images = catalog.select(catalog.rows_of(_used(table)))
    return ReleasedPairs(table, images, config, *facts, mining, file, expected)


def plain(table: pa.Table) -> pa.Table:
    """A table of pairs for exchange: no dictionaries, which not every reader knows."""
    columns: dict[str, Any] = {}
    for field in table.schema:
        column = table.column(field.name)
        columns[field.name] = column.cast(pa.string()) if pa.types.is_dictionary(field.type) else column
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    return pa.table(list(columns.values()), schema=pa.schema(fields))


def _read(file: Path, schema: pa.Schema) -> pa.Table:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file, partitioning=None)
        arrays = []
        for field in schema:
            column = table.column(field.name).combine_chunks()
            if isinstance(column, pa.ChunkedArray):
                column = pa.concat_arrays(column.chunks)
            is_word = pa.types.is_dictionary(field.type)
            arrays.append(column.dictionary_encode() if is_word else column.cast(field.type))
        return pa.table(arrays, schema=schema)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise UserError(str(file), f"is damaged ({error})", remedy=REMEDY) from None


def _used(table: pa.Table) -> pa.Array:
    """The distinct ids of a table of pairs, sorted."""
    both = [*table.column("anchor").chunks, *table.column("partner").drop_null().chunks]
    ids = pc.unique(pa.chunked_array(both, type=pa.string()))
    return ids.take(pc.sort_indices(ids))
